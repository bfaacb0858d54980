"""Experiments beyond the paper; training is played where the test is not slow."""

import csv
import dataclasses
import json
import types

import keras
import matplotlib.figure
import numpy as np
import pytest
from reproducing import assert_picture, files, make, means, numbers

from jarn_tf import arguments, evaluation
from jarn_tf.evaluation import Attack
from jarn_tf.reproduction import authors, levers, models, overfitting, reproducing, tradeoff
from jarn_tf.reproduction.setting import ROWS, SCALES
from jarn_tf.runs import config, presets

# Catastrophic overfitting


def of_variants(setting, radius):
    """(row, variant) to the run that is trained, at seed 0."""
    return {
        (row, name): setting.config(row, 0, **changes)
        for row in setting.rows
        for name, changes in overfitting.variants(setting, row, radius).items()
    }


def radii_of(dataset):
    return (0.3,) if dataset in ("digits", "mnist") else (8 / 255, 16 / 255)


@pytest.mark.parametrize("dataset", arguments.DATASETS)
@pytest.mark.parametrize("preset", config.PRESETS)
@pytest.mark.parametrize("scale", SCALES)
def test_variants_are_trained_and_attacked_alike(tmp_path, dataset, preset, scale):
    """At one radius, for the same epochs, by the same optimizer."""
    options = {"dataset": dataset, "preset": preset, "scale": scale}
    setting = make(tmp_path, "overfitting", rows=None, seeds=(0, 3), **options)
    cells = reproducing.find("overfitting").cells(setting)
    assert len(cells) == len({cell.name for cell in cells}) == 2 * 10 * len(radii_of(dataset))
    for radius in radii_of(dataset):
        runs = of_variants(setting, radius)
        assert len(runs) == 10
        for name in ("epochs", "classifier_optimizer", "classifier_decay", "pixel_scale"):
            assert len({getattr(run, name) for run in runs.values()}) == 1, name
        for run in runs.values():
            assert run.epsilon == run.training_epsilon == radius
        assert runs["fgsm_at", "N-FGSM"].epochs == setting.config("fgsm_at", 0).epochs


def test_variants_are_what_they_are_called(tmp_path):
    setting = make(tmp_path, "overfitting", dataset="cifar10", scale="full", rows=None)
    runs = of_variants(setting, 16 / 255)
    assert runs["fgsm_at", "no random start"] == presets.preset(
        "cifar10", "fgsm_at", "paper", epsilon=16 / 255
    )
    parts = {name: run.parts for (row, name), run in runs.items() if row == "fgsm_at"}
    assert parts == {
        "no random start": ("fgsm", "none"),
        "random start": ("fgsm", "none"),
        "N-FGSM": ("n_fgsm", "none"),
        "gradient alignment": ("fgsm", "gradient_alignment"),
    }
    assert runs["fgsm_at", "random start"].attack_random_start
    assert not any(run.attack_random_start for (_, n), run in runs.items() if n != "random start")
    assert runs["fgsm_at", "gradient alignment"].penalty_weight == 2.0
    assert of_variants(setting, 8 / 255)["fgsm_at", "gradient alignment"].penalty_weight == 0.2
    assert runs["pgd_at", "3 steps"].attack_steps == 3
    assert runs["pgd_at", "3 steps"].attack_step_size == pytest.approx(2 * 16 / 255 / 3, rel=1e-4)
    jarn = {
        name: (run.adversarial_weight, run.jarn_start_fraction)
        for (row, name), run in runs.items()
        if row == "jarn_at"
    }
    assert jarn == {
        "weight 1 from 75% on": (1.0, 0.75),
        "weight 0.1 from 0% on": (0.1, 0.0),
        "weight 1 from 0% on": (1.0, 0.0),
        "weight 10 from 0% on": (10.0, 0.0),
        "recommended options": (0.1, 0.25),
    }
    ours = presets.preset("cifar10", "jarn_at", "recommended")
    paper = presets.preset("cifar10", "jarn_at", "paper", epsilon=16 / 255)
    of_jarn = {
        name: getattr(ours, name)
        for name in config.declarations()
        if paper.uses(name) and not runs["fgsm_at", "no random start"].uses(name)
    }
    assert {"gan_loss", "adaptor_gain", "discriminator_filters"} < set(of_jarn)
    assert runs["jarn_at", "recommended options"] == dataclasses.replace(paper, **of_jarn)


@pytest.mark.parametrize("dataset", ["digits", "cifar10"])
def test_the_figure_has_the_accuracies_of_every_epoch(played, tmp_path, monkeypatch, dataset):
    """Those of `history.csv`: the mean over seeds, and their range."""
    drawn = []
    save = matplotlib.figure.Figure.savefig
    monkeypatch.setattr(
        matplotlib.figure.Figure,
        "savefig",
        lambda self, path: (drawn.append(self), save(self, path)),
    )
    setting = make(tmp_path, "overfitting", dataset=dataset, rows=None, seeds=(0, 1))
    text = reproducing.reproduce(setting)
    radii = radii_of(dataset)
    assert len(played) == 2 * 10 * len(radii)
    assert_picture(tmp_path / "overfitting.png")
    curves = {}
    for folder in (tmp_path / "models").iterdir():
        run = json.loads((folder / "config.json").read_text())["config"]
        key = json.dumps({name: v for name, v in run.items() if name != "seed"})
        with open(folder / "history.csv", newline="") as file:
            found = [100 * float(row["val_robust_accuracy"]) for row in csv.DictReader(file)]
        curves.setdefault(key, []).append(found)
    (figure,) = drawn
    panels = figure.axes
    assert len(panels) == len(radii)
    found = means(tmp_path, "overfitting")
    for panel, radius in zip(panels, radii):
        shown = models.radius_label(setting, radius)
        runs = of_variants(setting, radius)
        assert len(panel.lines) == len(runs) == 10
        for line, ((row, variant), run) in zip(panel.lines, runs.items()):
            assert line.get_label() == f"{ROWS[row]}, {variant}"
            key = json.dumps({name: v for name, v in run.as_dict().items() if name != "seed"})
            both = np.array(curves[key])
            assert both.shape == (2, setting.config("fgsm_at", 0).epochs)
            np.testing.assert_allclose(line.get_xdata(), range(1, both.shape[1] + 1))
            np.testing.assert_allclose(line.get_ydata(), both.mean(axis=0))
            label = f"{row}, {variant}, {shown}"
            last = found[label, "of the last"]
            assert last == pytest.approx(both[:, -1].mean())
            best = found[label, "PGD-10 of the best epoch (validation)"]
            assert best == pytest.approx(both.max(axis=1).mean())
            accuracy = 100 * np.mean(
                [played[dataclasses.replace(run, seed=s)]["fgsm"] for s in (0, 1)]
            )
            assert found[label, "FGSM"] == pytest.approx(accuracy)
            assert f"| {ROWS[row]}, {variant}, {shown} |" in text


def test_overfitting_takes_the_models_of_the_tables(played, tmp_path):
    reproducing.reproduce(make(tmp_path, "table3", rows=("fgsm_at", "jarn_at")))
    reproducing.reproduce(make(tmp_path, "overfitting", rows=("fgsm_at", "jarn_at")))
    assert len(played) == 9  # two of them were there


def test_an_interrupted_overfitting_goes_on_where_it_was(played, tmp_path):
    reproducing.reproduce(make(tmp_path, "overfitting", rows=("pgd_at",)))
    reproducing.reproduce(make(tmp_path, "overfitting", rows=("pgd_at", "fgsm_at")))
    assert len(played) == 5
    assert len(json.loads((tmp_path / "overfitting.json").read_text())["cells"]) == 5


def test_results_of_other_variants_of_the_same_name_are_left_alone(played, tmp_path, monkeypatch):
    """As after an update of this package that gives gradient alignment another weight."""
    reproducing.reproduce(make(tmp_path, "overfitting", rows=("fgsm_at",)))
    before = files(tmp_path)
    played.clear()
    monkeypatch.setitem(overfitting._ALIGNMENT, 0.3, 5.0)
    with pytest.raises(ValueError, match="alignment, eps 0.3, seed 0 of another configuration"):
        reproducing.reproduce(make(tmp_path, "overfitting", rows=("fgsm_at",)))
    assert not played
    assert files(tmp_path) == before


@pytest.mark.parametrize(
    ("name", "known"),
    [
        ("overfitting", "fgsm_at, jarn_at, pgd_at"),
        ("levers", "uniform_noise, jarn"),
        ("tradeoff", "uniform_noise, jarn, fgsm_at, pgd_at, trades, jarn_at, jarn_pgd_at"),
        ("authors", "jarn"),
    ],
)
def test_a_row_without_variants_is_refused_before_training(tmp_path, no_training, name, known):
    rows = (known.split(", ")[0], "standard")
    with pytest.raises(ValueError, match=f"some of {known}. Received: standard.$") as error:
        reproducing.reproduce(make(tmp_path / "out", name, rows=rows))
    assert "\n" not in str(error.value)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    "rows", [("pgd_at",), pytest.param(("fgsm_at", "jarn_at"), marks=pytest.mark.slow)]
)
def test_overfitting_of_trained_digits(tmp_path, digits, rows, monkeypatch):
    """At smoke scale; the curve's last point is the accuracy of the classifier that is kept."""
    monkeypatch.setitem(overfitting._RADII, "digits", (0.02,))  # that two epochs withstand
    reproducing.reproduce(make(tmp_path, "overfitting", rows=rows))
    assert_picture(tmp_path / "overfitting.png")
    cells = json.loads((tmp_path / "overfitting.json").read_text())["cells"]
    folders = list((tmp_path / "models").iterdir())
    assert len(cells) == len(folders) == (1 if rows == ("pgd_at",) else 9)
    lasts = []
    for folder in folders:
        model = keras.models.load_model(folder / "classifier.keras")
        images, labels = digits.validation.floats[:32], digits.validation.labels[:32]
        (row, *_) = evaluation.robustness(model, images, labels, [Attack("pgd10", 0.02)])
        lasts.append(100 * row["accuracy"])
    assert all(len(cell["curve"]) == 2 for cell in cells.values())
    assert sorted(lasts) == sorted(cell["curve"][-1] for cell in cells.values())
    assert max(lasts) > 0


# Clean accuracy against robust accuracy


@pytest.mark.parametrize("dataset", ["mnist", "cifar10"])
def test_points_train_what_they_are_called_for_the_same_cost(tmp_path, dataset):
    options = {"preset": "recommended", "rows": None, "scale": "small"}
    setting = make(tmp_path, "tradeoff", dataset=dataset, **options)
    runs = {}
    for name, strength in tradeoff._points(setting):
        changes = tradeoff.changes(setting, name, strength)
        run = setting.config(tradeoff.SWEEPS[name].row, 0, **changes)
        assert getattr(run, tradeoff.SWEEPS[name].strength) == strength
        cost = run.epochs * tradeoff.COSTS[name][dataset == "cifar10"]
        assert cost == pytest.approx(runs["noise"][0].epochs if runs else run.epochs, rel=0.13)
        runs.setdefault(name, []).append(run)
    assert {name: run.parts for name, (run, *_) in runs.items()} == {
        "noise": ("uniform_noise", "none"),
        "double backprop": ("uniform_noise", "double_backprop"),
        "L1": ("uniform_noise", "l1_gradient"),
        "Frobenius": ("uniform_noise", "frobenius"),
        "JARN": ("uniform_noise", "jarn"),
        "FGSM-AT": ("fgsm", "none"),
        "PGD-AT3": ("pgd", "none"),
        "TRADES, 3 steps": ("pgd_kl", "trades"),
        "JARN on FGSM-AT": ("fgsm", "jarn"),
        "JARN on PGD-AT3": ("pgd", "jarn"),
    }
    assert len({run.train_examples for points in runs.values() for run in points}) == 1
    # What JARN is put on is among the points, trained in the same way.
    shared = ("training_epsilon", "attack_steps", "attack_random_start", "classifier_optimizer")
    for jarn, plain in (("JARN on FGSM-AT", "FGSM-AT"), ("JARN on PGD-AT3", "PGD-AT3")):
        for of in runs[jarn]:
            assert any(
                all(getattr(of, name) == getattr(run, name) for name in shared)
                for run in runs[plain]
            )
    strongest = runs["PGD-AT3"][-1]
    assert runs["TRADES, 3 steps"][0].training_epsilon == strongest.training_epsilon
    assert runs["TRADES, 3 steps"][0].classifier_optimizer == strongest.classifier_optimizer


@pytest.fixture
def untrained(monkeypatch):
    """Points without training: JARN does best at its second strength, not at the largest radius."""

    def withstood(setting, classifier, split, attacks=("pgd20_margin", "pgd20")):
        name, strength, seed = classifier
        robust = [60.0, 20.0, 1.0] if (name, strength) == ("JARN", 0.1) else [50.0, 10.0, 8.0]
        if attacks == ("autoattack",):
            robust = [share - 1 - seed for share in robust]
        radii = [models.radius_label(setting, radius) for radius in models.RADII[setting.epsilon]]
        return {"clean": 90.0 - seed} | dict(zip(radii, robust))

    def trained(setting, name, strength, seed):
        return (name, strength, seed), 1.0

    masked = types.SimpleNamespace(label="masked")
    monkeypatch.setattr(models, "withstood", withstood)
    monkeypatch.setattr(tradeoff, "_trained", trained)
    monkeypatch.setattr(tradeoff, "masking_verdict", lambda *args, **options: masked)


def test_the_strength_that_validation_images_choose_has_autoattack_and_every_seed(
    untrained, tmp_path
):
    setting = make(
        tmp_path, "tradeoff", preset="recommended", rows=("jarn", "trades"), seeds=(0, 1, 2)
    )
    text = reproducing.reproduce(setting)
    assert text.count("gradients masked") == 2
    assert text.count("JARN: validation images choose adversarial_weight 0.1;") == 1
    table = numbers(tmp_path, "tradeoff")
    of_jarn = {place: line for place, line in table.items() if place[0].startswith("JARN, ")}
    assert len(of_jarn) == 3 * 5 + 3
    assert {row for row, column in of_jarn if "AutoAttack" in column} == {
        "JARN, adversarial_weight 0.1"
    }
    for (row, column), line in of_jarn.items():
        judged = "0.1" in row and "APGD" not in column
        assert line["seeds"] == ("3" if judged else "1"), (row, column)
    found = means(tmp_path, "tradeoff")
    assert found["JARN, adversarial_weight 0.1", "clean"] == pytest.approx(89.0)
    assert found["JARN, adversarial_weight 0.1", "AutoAttack eps 0.1"] == pytest.approx(58.0)
    assert_picture(tmp_path / "tradeoff.png")


def test_a_new_strength_is_chosen_anew(untrained, tmp_path, monkeypatch):
    """What was made of fewer strengths is no longer the choice."""
    setting = make(tmp_path, "tradeoff", preset="recommended", rows=("jarn",))
    fewer = dataclasses.replace(tradeoff.SWEEPS["JARN"], digits=(0.03, 0.3))
    with monkeypatch.context() as patch:
        patch.setitem(tradeoff.SWEEPS, "JARN", fewer)
        reproducing.reproduce(setting)
    text = reproducing.reproduce(setting)
    assert "validation images choose adversarial_weight 0.1;" in text
    assert text.count("validation images choose") == 1
    monkeypatch.setattr(tradeoff, "_ATTACKED", 100)
    with pytest.raises(ValueError, match="of another configuration"):
        reproducing.reproduce(setting)


def test_a_tradeoff_takes_the_recommended_settings_unless_told(tmp_path):
    assert reproducing.make_setting("tradeoff", tmp_path).preset == "recommended"
    assert reproducing.make_setting("tradeoff", tmp_path, preset="paper").preset == "paper"


@pytest.mark.slow
def test_a_tradeoff_of_trained_digits(tmp_path, monkeypatch):
    """At smoke scale; a second call trains nothing and says the same."""
    radii = (0.001, 0.002, 0.003)  # that two epochs withstand
    monkeypatch.setitem(models.RADII, 0.3, radii)
    setting = make(tmp_path, "tradeoff", preset="recommended", rows=("fgsm_at",))
    text = reproducing.reproduce(setting)
    found = means(tmp_path, "tradeoff")
    assert len({row for row, _ in found}) == 3
    for (row, column), value in found.items():
        assert 0 <= value <= 100, (row, column)
    for row in {row for row, _ in found}:
        falling = [found[row, "clean"], *(found[row, f"APGD eps {r:g}"] for r in radii)]
        assert falling == sorted(falling)[::-1]
        assert falling[1] > 0
        if (row, "AutoAttack eps 0.003") in found:
            for radius in radii:
                under = found[row, f"AutoAttack eps {radius:g}"]
                assert under <= found[row, f"APGD eps {radius:g}"] + 5
    assert len({row for row, column in found if "AutoAttack" in column}) == 1
    assert reproducing.reproduce(setting) == text


# Options of JARN


@pytest.mark.parametrize("row", ["uniform_noise", "jarn"])
def test_every_lever_has_an_effect_and_no_two_are_one(tmp_path, row):
    setting = reproducing.make_setting("levers", tmp_path)
    runs = {}
    for name, changes in levers.variants(setting, row).items():
        run = setting.config(row, 0, **changes)
        assert run.network == "compact_cnn"
        for setting_name in changes:
            assert run.uses(setting_name), (name, setting_name)
        runs[name] = run
    plain = next(iter(runs.values()))
    for name, changes in levers._VARIANTS[row].items():
        for setting_name, value in changes.items():
            if plain.uses(setting_name):
                assert getattr(plain, setting_name) != value, (name, setting_name)
    assert len(set(map(repr, runs.values()))) == len(runs) == {"uniform_noise": 9, "jarn": 30}[row]


@pytest.mark.slow
def test_levers_of_trained_digits(tmp_path, monkeypatch, digits):
    """At smoke scale, on validation images; the share told from images is of the last epoch."""
    monkeypatch.setitem(levers._VARIANTS, "jarn", {"minimax": {"gan_loss": "minimax"}})
    monkeypatch.setitem(levers._VARIANTS, "uniform_noise", {"as it is": {}})
    reproducing.reproduce(make(tmp_path, "levers", preset="recommended", rows=None))
    found = means(tmp_path, "levers")
    (folder,) = (tmp_path / "models").glob("*_jarn_*")
    with open(folder / "history.csv", newline="") as file:
        (epoch,) = csv.DictReader(file)
    told = 100 * float(epoch["discriminator_adapted_accuracy"])
    assert found["jarn, minimax", "J' told from images"] == pytest.approx(told)
    assert ("uniform_noise, as it is", "J' told from images") not in found
    model = keras.models.load_model(folder / "classifier.keras")
    shown = digits.validation.first(32)
    expected = evaluation.jacobian_image_correlation(model, shown.floats, shown.labels, "logit")
    correlation = found["jarn, minimax", "correlation of J with the image"]
    assert correlation == pytest.approx(expected, abs=1e-5)
    for row in ("jarn, minimax", "uniform_noise, as it is"):
        robust = [found[row, f"eps {r:g}"] for r in (0.1, 0.2, 0.3)]
        assert [found[row, "clean"], *robust] == sorted([found[row, "clean"], *robust])[::-1]


# The authors' pipeline


def test_the_authors_pipeline_with_every_seed_and_open_choices_with_one(
    played, tmp_path, monkeypatch
):
    monkeypatch.setattr(models, "classifier", lambda workdir: None)
    none = types.SimpleNamespace(floats=None, labels=None)
    images = types.SimpleNamespace(test=types.SimpleNamespace(first=lambda n: none))
    monkeypatch.setattr(models, "evaluation", evaluation_of_32)
    monkeypatch.setattr(models, "dataset", lambda setting: images)
    attacked = [{"name": "clean", "accuracy": 0.9}, {"name": "autoattack", "accuracy": 0.25}]
    monkeypatch.setattr(authors, "robustness", lambda *args: attacked)
    setting = make(
        tmp_path, "authors", dataset="mnist", preset="authors", rows=None, seeds=tuple(range(10))
    )
    text = reproducing.reproduce(setting)
    found = numbers(tmp_path, "authors")
    rows = {row for row, _ in found}
    assert len(rows) == 9
    assert len(played) == 10 + 8
    assert {line["seeds"] for (row, _), line in found.items() if row != "jarn, preset"} == {"1"}
    base = [a["pgd40"] for run, a in played.items() if run == setting.config("jarn", run.seed)]
    assert len(base) == 10
    assert float(found["jarn, preset", "PGD-40"]["mean"]) == pytest.approx(100 * np.mean(base))
    assert found["jarn, preset", "PGD-40"]["published"] == "98.1"
    assert means(tmp_path, "authors")["jarn, preset", "AutoAttack"] == 25.0
    assert text.count("(paper ") == 4
    assert_picture(tmp_path / "authors.png")


@pytest.mark.parametrize("scale", SCALES)
def test_lengths_are_relative_to_the_scale_s_own(tmp_path, scale):
    setting = make(tmp_path, "authors", preset="authors", dataset="mnist", scale=scale, rows=None)
    runs = {name: setting.config("jarn", 0, **c) for name, c in authors.choices(setting).items()}
    assert len({repr(run) for run in runs.values()}) == len(runs)
    whole = runs["preset"].epochs
    assert runs["half as long"].epochs == whole / 2
    assert runs["twice as long"].epochs == 2 * whole
    others = {run.epochs for name, run in runs.items() if "long" not in name}
    assert others == {whole}


def evaluation_of_32(setting, workdir, epsilon=None):
    """As `models.evaluation`, of what `played` writes."""
    path = workdir / "evaluation.json"
    return json.loads(path.read_text()) if path.exists() else None
