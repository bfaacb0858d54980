import dataclasses
import shutil

import keras
import numpy as np
import pytest
import toys

from jarn_tf import attacks, evaluation
from jarn_tf.attacks.autoattack import VERSIONS
from jarn_tf.evaluation import Attack
from jarn_tf.evaluation.masking import measurements
from jarn_tf.files import read_json
from jarn_tf.runs import evaluating, saved


def test_evaluate_a_classifier_of_one_s_own(digits_classifier, digits, tmp_path):
    digits_classifier.save(tmp_path / "mine.keras")
    target = evaluating.saved_model(tmp_path / "mine.keras", "digits", tmp_path / "out")
    rows = evaluating.evaluate(target, [Attack("fgsm", 0.05)], examples=50)["attacks"]
    assert read_json(tmp_path / "out" / "evaluation.json")["attacks"] == rows
    predicted = digits_classifier(digits.test.floats[:50]).numpy().argmax(axis=1)
    assert rows[0]["accuracy"] == pytest.approx((predicted == digits.test.labels[:50]).mean())


@pytest.fixture
def target(digits_classifier, tmp_path):
    digits_classifier.save(tmp_path / "mine.keras")
    return evaluating.saved_model(tmp_path / "mine.keras", "digits", tmp_path / "out")


AUTOATTACK = [Attack("fgsm", 0.1), Attack("pgd10", 0.1), Attack("autoattack", 0.1)]


def test_worst_cases_are_misclassified_when_read_from_disk(target, digits_classifier, digits):
    rows = evaluating.evaluate(target, [Attack("fgsm", 0.02), *AUTOATTACK], examples=40)["attacks"]
    accuracy = {(row["name"], row["epsilon"]): row["accuracy"] for row in rows}
    found = np.load(target.output / "adversarial" / "epsilon_0.1.npz")
    labels, right = digits.test.labels[:40], found["right"]
    np.testing.assert_array_equal(found["labels"], labels)
    for size in (1, 7, 40):  # however they are put together
        logits = [
            digits_classifier(found["images"][i : i + size]).numpy() for i in range(0, 40, size)
        ]
        predicted = np.concatenate(logits).argmax(axis=1)
        np.testing.assert_array_equal(predicted == labels, right)
    exact = found["images"].astype(np.float64) - digits.test.floats[:40].astype(np.float64)
    assert np.abs(exact).max() <= 0.1
    assert found["images"].min() >= 0 and found["images"].max() <= 1
    assert right.mean() == pytest.approx(accuracy["worst_case", 0.1])
    assert accuracy["worst_case", 0.1] <= min(accuracy[a.name, 0.1] for a in AUTOATTACK)
    by = found["broken_by"]
    assert set(by[~right]) <= {"clean", *(a.name for a in AUTOATTACK)} and set(by[right]) <= {""}
    assert (by == "fgsm").sum() == round(40 * (accuracy["clean", 0] - accuracy["fgsm", 0.1]))
    evaluating.evaluate(target, [Attack("fgsm", 0.02)], examples=40)
    names = [path.name for path in (target.output / "adversarial").iterdir()]
    assert names == ["epsilon_0.02.npz"]  # none of the evaluation before


@pytest.mark.parametrize("broken_off", ["pgd", "square", "masking_verdict"])
def test_an_interrupted_evaluation_continues(target, broken_off, tmp_path, monkeypatch):
    """It ends with the accuracies, images and verdict of an unbroken one, and cleans up."""
    options = {"examples": 20}
    if broken_off == "masking_verdict":
        options["verdict_epsilon"] = 0.1
        monkeypatch.setattr(measurements, "_QUERIES", 50)
    unbroken = dataclasses.replace(target, output=tmp_path / "unbroken")
    evaluating.evaluate(unbroken, AUTOATTACK, **options)

    def interrupt(*args, **kwargs):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        if broken_off == "masking_verdict":
            patch.setattr(evaluation.masking.verdict, "measure", interrupt)
        elif broken_off == "pgd":
            patch.setattr(attacks, "pgd", interrupt)
        else:
            members = VERSIONS["standard"] | {"square": (interrupt, {})}
            patch.setitem(VERSIONS, "standard", members)
        with pytest.raises(KeyboardInterrupt):
            evaluating.evaluate(target, AUTOATTACK, **options)
    assert not (target.output / "evaluation.json").exists()
    assert any((target.output / "evaluation_state").rglob("*.npz"))
    with pytest.raises(ValueError, match="something else. Different: epsilon .*delete the folder"):
        evaluating.evaluate(target, [Attack("autoattack", 0.05)], **options)
    evaluating.evaluate(target, AUTOATTACK, **options)
    assert not (target.output / "evaluation_state").exists()

    def content(folder):
        found = read_json(folder / "evaluation.json")
        for row in found["attacks"]:
            del row["seconds"]
        return found

    assert content(target.output) == content(unbroken.output)
    for path in (unbroken.output / "adversarial").iterdir():
        there, here = np.load(path), np.load(target.output / "adversarial" / path.name)
        for name in there:
            np.testing.assert_array_equal(there[name], here[name])


def test_a_damaged_part_is_computed_again(target, monkeypatch, capsys):
    options = {"examples": 20}
    expected = evaluating.evaluate(target, AUTOATTACK, **options)["attacks"]
    monkeypatch.setattr(evaluating.Parts, "discard", lambda self: None)
    evaluating.evaluate(target, AUTOATTACK, **options)
    parts = sorted((target.output / "evaluation_state").glob("*.npz"))
    parts[0].write_bytes(b"")
    parts[1].write_bytes(parts[1].read_bytes()[:-40])
    flipped = bytearray(parts[2].read_bytes())
    flipped[len(flipped) // 2] ^= 1
    parts[2].write_bytes(flipped)
    found = evaluating.evaluate(target, AUTOATTACK, **options)["attacks"]
    assert [row["accuracy"] for row in found] == [row["accuracy"] for row in expected]
    assert capsys.readouterr().out.count("computing it again") == 3


def test_a_verdict_at_radius_0_is_refused_before_the_work(target):
    with pytest.raises(ValueError, match="radius of a verdict must be .* above 0"):
        evaluating.evaluate(target, AUTOATTACK, verdict_epsilon=0.0)
    assert not target.output.exists()


def test_probabilities_are_refused_and_leave_nothing(digits_classifier, tmp_path):
    softmax = keras.layers.Softmax()
    keras.Sequential([keras.Input((28, 28, 1)), digits_classifier, softmax]).save(
        tmp_path / "softmax.keras"
    )
    target = evaluating.saved_model(tmp_path / "softmax.keras", "digits", tmp_path / "out")
    with pytest.raises(ValueError, match="Remove its last softmax"):
        evaluating.evaluate(target, AUTOATTACK)
    assert not target.output.exists()


def test_a_model_of_another_image_shape_is_refused(tmp_path):
    toys.classifier().save(tmp_path / "toy.keras")
    target = evaluating.saved_model(tmp_path / "toy.keras", "digits", tmp_path / "out")
    with pytest.raises(ValueError, match="does not fit digits"):
        evaluating.evaluate(target, [Attack("fgsm", 0.05)])
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("shape", "said"), [((8, 8, 3), "Give --image_size=8"), ((3, 12, 16), "layers.Permute")]
)
def test_a_classifier_of_another_shape_is_told_the_way(shape, said):
    classifier = toys.classifier(image_shape=shape, classes=2)
    with pytest.raises(ValueError, match=said):
        saved.refuse_other_shape(classifier, "folder:pictures", (12, 16, 3), 2)


class Own(keras.layers.Layer):
    pass


def test_modules_that_a_classifier_needs():
    inner = keras.Sequential([Own(), keras.layers.Flatten(), keras.layers.Dense(2)])
    assert saved.modules_of(keras.Sequential([keras.Input((4, 4, 1)), inner])) == [__name__]
    assert saved.modules_of(toys.classifier()) == []


@pytest.mark.parametrize(
    ("save", "said"),
    [
        (lambda path: path.mkdir(), "is a folder"),
        (
            lambda path: keras.Sequential(
                [keras.Input((4, 4, 1)), keras.layers.Lambda(lambda x: x)]
            ).save(path),
            "If you trust it, import a module",
        ),
    ],
)
def test_what_is_no_model_says_what_to_do(tmp_path, save, said):
    save(tmp_path / "model.keras")
    with pytest.raises(ValueError, match=said) as error:
        saved.load_classifier(tmp_path / "model.keras")
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("probabilities", [False, True])
def test_a_model_of_pixels_up_to_255(digits_classifier, digits, tmp_path, probabilities):
    """As it is it is no better than chance, and the report says why; told so it is itself."""
    inputs = keras.Input((28, 28))
    outputs = digits_classifier(keras.layers.Rescaling(1 / 255)(inputs[..., None]))
    outputs = keras.layers.Softmax()(outputs) if probabilities else outputs
    keras.Model(inputs, outputs).save(tmp_path / "m.keras")

    def evaluated(**options):
        target = evaluating.saved_model(tmp_path / "m.keras", "digits", tmp_path / "o", **options)
        return evaluating.evaluate(target, [Attack("fgsm", 0.05)], examples=50)

    as_it_is = evaluated(probabilities=probabilities)
    told = evaluated(probabilities=probabilities, pixel_scale=255.0)
    predicted = digits_classifier(digits.test.floats[:50]).numpy().argmax(axis=1)
    assert told["attacks"][0]["accuracy"] == np.mean(predicted == digits.test.labels[:50])
    assert as_it_is["attacks"][0]["accuracy"] < 0.2
    assert as_it_is["accuracy_on_255"] == told["attacks"][0]["accuracy"]
    assert "--pixel_scale=255" in evaluation.report_text(as_it_is)
    assert "accuracy_on_255" not in told


@pytest.mark.parametrize("content", [None, b"", b"no model"])
def test_a_file_that_is_no_model(tmp_path, content):
    path = tmp_path / "m.keras"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises((ValueError, OSError), match="m.keras"):
        evaluating.saved_model(path, "digits", tmp_path / "out")


def test_an_unfinished_run_is_not_evaluated(run_dir, tmp_path):
    shutil.copy(run_dir / "config.json", tmp_path)
    with pytest.raises(ValueError, match="not finished"):
        evaluating.finished_run(tmp_path)
    with pytest.raises(ValueError, match="no readable run"):
        evaluating.finished_run(tmp_path / "nowhere")
