"""Figures 2 to 5."""

import dataclasses

import keras
import numpy as np
import pytest
from reproducing import assert_picture, make, means, numbers

from jarn_tf import arguments, evaluation
from jarn_tf.evaluation import Attack
from jarn_tf.reproduction import figure3, models, reproducing
from jarn_tf.runs import config, evaluating


def test_figure_2_is_accuracy_over_the_radius(finished, output, digits, no_training):
    reproducing.reproduce(make(output, "figure2", rows=("standard",)))
    assert_picture(output / "figure2.png")
    found, table1 = means(output, "figure2"), means(finished)
    assert len(found) == 3 * 5
    (folder,) = (finished / "models").glob("*_standard_seed0")
    model = keras.models.load_model(folder / "classifier.keras")
    test = digits.test.first(32)
    for steps in (5, 10, 20):
        row = f"standard, PGD-{steps}"
        assert found[row, "eps 0"] == table1["standard", "clean"]
        attack = Attack(f"pgd{steps}", 0.1)
        images = attack(model, test.floats, test.labels, stop_when_misclassified=True)
        right = model(images).numpy().argmax(axis=1) == test.labels
        assert found[row, "eps 0.1"] == pytest.approx(100 * right.mean())
        assert found[row, "eps 0.1"] >= found[row, "eps 0.4"]
    assert found["standard, PGD-5", "eps 0.3"] == table1["standard", "PGD-5"]


def test_figure_3_is_the_loss_around_an_image(finished, output, digits, no_training):
    reproducing.reproduce(make(output, "figure3", rows=("jarn",)))
    assert_picture(output / "figure3.png")
    found = means(output, "figure3")
    test = digits.test.first(32)
    (folder,) = (finished / "models").glob("*_jarn_seed0")
    logits = keras.models.load_model(folder / "classifier.keras")(test.floats)
    losses = keras.losses.sparse_categorical_crossentropy(test.labels, logits, from_logits=True)
    assert found["jarn", "loss at the image"] == pytest.approx(losses.numpy().mean(), rel=1e-4)
    assert found["jarn", "highest"] >= found["jarn", "at eps, adversarial"]


@pytest.mark.parametrize(
    ("loss", "bend"),
    [
        (lambda t: 1 + 3 * t, 0),
        (lambda t: 5 - 2 * t, 0),
        (lambda t: 2 * t**2, 0.25),  # half-way a quarter of the end
        (lambda t: np.where(t < 0.25, 4 * t, 1), 0.75),  # all of the rise in the first quarter
    ],
)
def test_bend_is_the_distance_from_a_straight_line_in_rises(loss, bend):
    along = loss(np.linspace(0, 1, 21))
    surfaces = np.repeat(along[None, :, None], 5, axis=2).repeat(3, axis=0)
    assert figure3._bend(surfaces) == pytest.approx(bend, abs=1e-9)


def test_figure_4_is_the_saliency_of_the_models(finished, output, digits, no_training):
    reproducing.reproduce(make(output, "figure4"))
    assert_picture(output / "figure4.png")
    found = means(output, "figure4")
    test = digits.test.first(32)
    for row in ("standard", "jarn"):
        (folder,) = (finished / "models").glob(f"*_{row}_seed0")
        model = keras.models.load_model(folder / "classifier.keras")
        alignments, distances = evaluation.alignment_and_robustness(model, test.floats)
        assert found[row, "alignment alpha"] == pytest.approx(np.median(alignments), rel=1e-3)
        assert found[row, "linearised robustness rho"] == pytest.approx(
            np.median(distances), rel=1e-3
        )


def test_figure_4_leaves_out_a_distance_that_is_infinite(finished, output, tmp_path, monkeypatch):
    """The first-order robustness of a constant classifier has no number."""
    (folder,) = (finished / "models").glob("*_standard_seed0")
    collapsed = tmp_path / "collapsed"
    collapsed.mkdir()
    model = keras.models.load_model(folder / "classifier.keras")
    model.layers[-1].set_weights([0 * weights for weights in model.layers[-1].get_weights()])
    model.save(collapsed / "classifier.keras")
    (collapsed / "config.json").write_bytes((folder / "config.json").read_bytes())
    wanted = list(models.attacks(make(output)).values())
    evaluating.evaluate(evaluating.finished_run(collapsed), wanted)
    monkeypatch.setattr(models, "trained", lambda *args: collapsed)
    text = reproducing.reproduce(make(output, "figure4", rows=("standard",)))
    found = means(output, "figure4")
    assert ("standard", "linearised robustness rho") not in found
    assert found["standard", "images without gradient, %"] == 100
    assert "nan" not in text.lower() and "inf" not in text.lower()


@pytest.mark.parametrize("dataset", arguments.DATASETS)
@pytest.mark.parametrize("preset", config.PRESETS)
def test_figure_5_varies_one_setting_at_a_time(played, tmp_path, dataset, preset):
    setting = make(tmp_path, "figure5", dataset=dataset, preset=preset, rows=None)
    for cell in reproducing.find("figure5").cells(setting):
        cell.compute()
    base = setting.config("jarn", 0).as_dict()
    varied = {}
    for run in played:
        changed = {name: v for name, v in run.as_dict().items() if v != base[name]}
        assert len(changed) <= 1
        for name, value in changed.items():
            varied.setdefault(name, []).append(value)
    lowest = base["discriminator_interval"] == 1  # none is below
    assert len(played) == 7 - lowest  # the preset itself is shared
    assert varied.keys() == {"adversarial_weight", "batch_size", "discriminator_interval"}
    for name, values in varied.items():
        *low, high = sorted(values)
        assert base[name] < high, name
        assert lowest if not low else low[0] < base[name], name


def test_figure_5_is_drawn(played, tmp_path):
    reproducing.reproduce(make(tmp_path, "figure5", rows=("jarn",), seeds=(0, 1)))
    assert_picture(tmp_path / "figure5.png")
    found = numbers(tmp_path, "figure5")
    rows = {row for row, _ in found}
    assert len(rows) == 9
    assert all(line["seeds"] == "2" for line in found.values())
    varied = [run for run in played if run.discriminator_interval < 10 and run.seed == 0]
    (row,) = [r for r in rows if r.endswith(f"interval {varied[0].discriminator_interval:g}")]
    both = [a for run, a in played.items() if dataclasses.replace(run, seed=0) == varied[0]]
    expected = 100 * np.mean([accuracies["fgsm"] for accuracies in both])
    assert float(found[row, "FGSM"]["mean"]) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("highest", "top"), [(0.56, 1), (1.2, 3), (2.05, 3), (345, 1000), (30, 30), (0.0, 1e-6)]
)
def test_heights_of_one_size_share_a_scale(highest, top):
    assert figure3._scale(highest) == pytest.approx(top)
