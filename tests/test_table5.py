"""Table 5: transferred attacks."""

import keras
import pytest
import toys
from reproducing import make, means

from jarn_tf import attacks
from jarn_tf.reproduction import models, reproducing


@pytest.fixture
def three_models(finished, run_dir, monkeypatch):
    """What Table 5 takes for Standard, for its copy of another seed, and for PGD-AT7."""
    places = {}
    for key, name in ((("standard", 0), "standard"), (("standard", 1), "jarn")):
        (places[key],) = (finished / "models").glob(f"*_{name}_seed0")
    places["pgd_at", 0] = run_dir
    monkeypatch.setattr(models, "trained", lambda setting, row, seed: places[row, seed])
    return {
        key: keras.models.load_model(place / "classifier.keras") for key, place in places.items()
    }


def test_table_5_attacks_the_sources_and_judges_the_model(
    three_models, finished, output, digits, no_training
):
    reproducing.reproduce(make(output, "table5", rows=("standard",)))
    found = means(output, "table5")
    test, target = digits.test.first(32), three_models["standard", 0]
    sources = {
        "PGD-AT7": ("pgd_at", 0),
        "same model": ("standard", 1),
        "white-box": ("standard", 0),
    }
    for name, key in sources.items():
        for column, attack, options in (
            ("FGSM", attacks.fgsm, {}),
            ("PGD-20", attacks.pgd, {"steps": 20}),
        ):
            images = attack(three_models[key], test.floats, test.labels, epsilon=0.3, **options)
            right = target(images).numpy().argmax(axis=1) == test.labels
            assert found["standard", f"{name}, {column}"] == pytest.approx(100 * right.mean())
    table1 = means(finished)
    assert found["standard", "white-box, FGSM"] == table1["standard", "FGSM"]
    assert found["standard", "clean"] == table1["standard", "clean"]
    assert len(found) == 7  # as many columns as the paper has


def test_table_5_with_a_substitute_of_one_s_own(three_models, output, tmp_path, no_training):
    """The model itself, so that what is transferred is the white-box attack."""
    path = tmp_path / "own.keras"
    three_models["standard", 0].save(path)
    reproducing.reproduce(make(output, "table5", rows=("standard",), substitute=str(path)))
    found = means(output, "table5")
    for column in ("FGSM", "PGD-20"):
        assert (
            found["standard", f"substitute, {column}"] == found["standard", f"white-box, {column}"]
        )
    assert ("standard", "PGD-AT7, FGSM") not in found


@pytest.mark.parametrize(
    ("substitute", "parts"),
    [
        (lambda: toys.classifier(classes=10), ["(28, 28, 1)", "(6, 6, 2)"]),
        (lambda: toys.classifier(image_shape=(28, 28, 1), classes=7), ["10 classes", "7 classes"]),
    ],
)
def test_a_substitute_of_other_images_is_refused_before_training(
    tmp_path, no_training, substitute, parts
):
    path = tmp_path / "other.keras"
    substitute().save(path)
    with pytest.raises(ValueError, match="does not fit") as error:
        reproducing.reproduce(make(tmp_path / "out", "table5", substitute=str(path)))
    for part in parts:
        assert part in str(error.value)
    assert "\n" not in str(error.value)
    assert not (tmp_path / "out").exists()


def test_a_substitute_that_is_no_model_is_refused_before_training(tmp_path, no_training):
    (tmp_path / "no.keras").write_text("no model")
    with pytest.raises(ValueError, match="no.keras"):
        reproducing.reproduce(
            make(tmp_path / "out", "table5", substitute=str(tmp_path / "no.keras"))
        )
    assert not (tmp_path / "out").exists()
