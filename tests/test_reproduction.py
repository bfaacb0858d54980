"""Digits at smoke scale; training is real for two models, elsewhere it is played."""

import dataclasses
import json
import shutil

import keras
import numpy as np
import pytest
import toys
from reproducing import assert_picture, files, make, means, numbers

from jarn_tf import (
    JARN,
    InputGradientPenalty,
    arguments,
    attacks,
    callbacks,
    data,
    evaluation,
    reproduction,
)
from jarn_tf.evaluation import Attack
from jarn_tf.files import read_json
from jarn_tf.reproduction import (
    figure3,
    models,
    table4,
)
from jarn_tf.runs import config, evaluating, presets, training
from jarn_tf.runs.workdir import locked

EXPERIMENTS = reproduction.EXPERIMENTS


@pytest.fixture
def finished(reproduced):
    """The output folder of an unbroken Table 1 with two trained models; read it only."""
    return reproduced


@pytest.fixture
def output(finished, tmp_path):
    """A folder of one's own that shares the trained models."""
    (tmp_path / "models").symlink_to(finished / "models")
    return tmp_path


# What the paper prints


@pytest.mark.parametrize(
    ("name", "row", "column", "value"),
    [
        ("table1", "jarn", "FGSM", 98.4),
        ("table1", "jarn", "PGD-40", 98.1),
        ("table1", "standard", "PGD-40", 0),
        ("table1", "uniform_noise", "PGD-40", 0.02),
        ("table1", "jarn", "clean", 98.8),
        ("table2", "jarn", "PGD-20", 26.79),
        ("table2", "uniform_noise", "PGD-10", 18.4),
        ("table2", "standard", "clean", 94.7),
        ("table3", "fgsm_at", "FGSM", 94.5),
        ("table3", "fgsm_at", "PGD-20", 0.01),
        ("table3", "pgd_at", "clean", 87.3),
        ("table3", "jarn_at", "PGD-20", 46.7),
        ("table3", "double_backprop", "PGD-5", 0.05),
        ("table3", "jarn", "PGD-20 margin", None),
        ("table3", "trades", "clean", None),
        ("table4", "pgd_at, wide_resnet", "epoch, s", 704),
        ("table4", "jarn_at, wide_resnet", "epoch, s", 294),
        ("table4", "fgsm_at, wide_resnet", "epoch, s", 267),
        ("table4", "jarn, wide_resnet", "epoch, s", 217),
        ("table4", "jarn, wide_resnet", "active step, s", None),
        ("table4", "jarn, mnist_cnn", "epoch, s", None),
        ("table4", "standard, wide_resnet", "epoch, s", None),
        ("table5", "jarn", "same model, PGD-20", 17.4),
        ("table5", "jarn_at", "PGD-AT7, FGSM", 66.4),
        ("table5", "jarn", "substitute, FGSM", None),
        ("figure2", "pgd_at, PGD-5", "eps 8/255", 55.5),
        ("figure2", "jarn_at, PGD-20", "eps 0/255", 84.8),
        ("figure2", "jarn_at, PGD-20", "eps 4/255", None),
        ("figure2", "pgd_at_wide, PGD-5", "eps 8/255", None),
        ("figure5", "jarn, adversarial_weight 1", "PGD-20", 15.5),
        ("figure5", "jarn, adversarial_weight 10", "PGD-20", None),
    ],
)
def test_published_numbers(tmp_path, name, row, column, value):
    setting = make(tmp_path, name, dataset=None, scale="full", rows=None)
    assert EXPERIMENTS[name].published(setting, row, column) == value


def test_published_ratio_of_seconds(tmp_path):
    """Less than half the time of PGD-AT7, as Section 4.3.4 says."""
    setting = make(tmp_path, "table4", dataset=None, scale="full", rows=None)
    ratio = EXPERIMENTS["table4"].published(setting, "jarn_at, wide_resnet", "epoch / PGD-AT7")
    assert ratio == pytest.approx(294 / 704, abs=5e-4)


def test_tables_of_another_dataset_have_no_published_numbers(tmp_path):
    setting = make(tmp_path, "table5", dataset="mnist")
    assert EXPERIMENTS["table5"].published(setting, "jarn", "same model, PGD-20") is None
    setting = make(tmp_path, "table3", dataset="digits")
    assert EXPERIMENTS["table3"].published(setting, "jarn", "clean") is None


@pytest.mark.parametrize(
    ("name", "rows", "columns"), [("table1", 3, 4), ("table2", 3, 5), ("table3", 7, 5)]
)
def test_every_number_of_the_papers_tables_stands_beside_a_measured_one(
    played, tmp_path, name, rows, columns
):
    text = reproduction.reproduce(make(tmp_path, name, dataset=None, rows=None))
    found = [line for line in numbers(tmp_path, name).values() if line["published"]]
    assert len(found) == rows * columns
    assert text.count("(paper ") == rows * columns
    assert len(played) == rows


def test_markdown_shows_the_measured_beside_the_published(played, tmp_path):
    text = reproduction.reproduce(make(tmp_path, dataset="mnist"))
    (run,) = [run for run in played if run.defense == "jarn"]
    (line,) = [line for line in text.splitlines() if line.startswith("| JARN |")]
    (title,) = [line for line in text.splitlines() if line.startswith("| model |")]
    cells = dict(zip(title.split(" | "), line.split(" | ")))
    assert cells["FGSM"].endswith("(paper 98.4)")
    assert float(cells["FGSM"].split()[0]) == pytest.approx(100 * played[run]["fgsm"], abs=0.05)
    assert cells["PGD-40"].endswith("(paper 98.1)")
    assert "paper" not in cells["worst"]
    assert (tmp_path / "table1.md").read_text() == text


# Settings


@pytest.mark.parametrize("dataset", arguments.DATASETS)
@pytest.mark.parametrize("name", EXPERIMENTS)
def test_every_experiment_has_its_cells_on_every_dataset(tmp_path, name, dataset):
    for scale in reproduction.SCALES:
        for preset in config.PRESETS:
            setting = make(
                tmp_path, name, dataset=dataset, scale=scale, preset=preset, rows=None, seeds=(0, 3)
            )
            cells = EXPERIMENTS[name].cells(setting)
            assert len({cell.name for cell in cells}) == len(cells)
            if name in ("table4", "overfitting", "levers", "tradeoff", "authors"):
                continue  # one process measures all rows; rows have variants or strengths
            lowest = setting.config("jarn", 0).discriminator_interval == 1  # none is below
            per_model = 9 - lowest if name == "figure5" else 1
            assert len(cells) == 2 * len(EXPERIMENTS[name].rows) * per_model
            assert {cell.seed for cell in cells} == {0, 3}
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("dataset", arguments.DATASETS)
@pytest.mark.parametrize("scale", reproduction.SCALES)
def test_every_row_is_its_defense_at_the_papers_radius(tmp_path, dataset, scale):
    radius = 0.3 if dataset in ("digits", "mnist") else 8 / 255
    setting = make(tmp_path, dataset=dataset, scale=scale)
    for row in reproduction.ROWS:
        run = setting.config(row, 4)
        defense = "pgd_at" if row == "pgd_at_wide" else row
        assert (run.defense, run.seed) == (defense, 4)
        assert (run.perturbation, run.regularizer) == config.PAIRS[defense]
        assert run.epsilon == radius
        trained_at = run.training_epsilon
        assert trained_at > radius if row == "pgd_at_wide" else trained_at == radius
        if scale == "full" and row == defense:
            assert run == presets.preset(dataset, row, "paper", seed=4)


def test_the_papers_dataset_and_rows_where_none_are_given(tmp_path):
    setting = reproduction.make_setting("table2", tmp_path)
    assert (setting.dataset, setting.scale, setting.preset) == ("svhn", "small", "paper")
    assert setting.rows == ("standard", "uniform_noise", "jarn")
    assert make(tmp_path, rows=("all",)).rows == tuple(reproduction.ROWS)
    seeds = {scale: make(tmp_path, scale=scale).seeds for scale in reproduction.SCALES}
    assert seeds == {"smoke": (0,), "small": (0,), "full": (0, 1, 2)}


@pytest.mark.parametrize(
    ("options", "parts"),
    [
        ({"name": "table6"}, ["experiment", "table6", "figure5"]),
        ({"name": None}, ["experiment", "None"]),
        ({"dataset": "imagenet"}, ["dataset", "imagenet"]),
        ({"scale": "huge"}, ["scale", "huge", "smoke"]),
        ({"preset": "best"}, ["preset", "best"]),
        ({"rows": ("jarn", "mart")}, ["row", "mart", "jarn_at"]),
        ({"rows": ()}, ["row"]),
        ({"seeds": ()}, ["seeds", "none"]),
        ({"seeds": (1, 0, 1)}, ["seeds", "1,0,1"]),
        ({"seeds": (0, -1)}, ["seed", "-1"]),
        ({"seeds": ("a",)}, ["seed", "'a'"]),
        ({"substitute": "m.keras"}, ["substitute", "table5", "table1"]),
    ],
)
def test_bad_settings_are_refused_in_one_line(tmp_path, options, parts):
    with pytest.raises(ValueError) as error:
        make(tmp_path, **options)
    for part in parts:
        assert part in str(error.value)
    assert "\n" not in str(error.value)


# A table


def test_a_table_is_of_the_saved_classifiers(finished, digits):
    found = means(finished)
    test = digits.test.first(32)
    content = read_json(finished / "table1.json")
    assert len(content["cells"]) == 2
    for row in ("standard", "jarn"):
        (folder,) = (finished / "models").glob(f"*_{row}_seed0")
        model = keras.models.load_model(folder / "classifier.keras")

        def right(images, model=model):
            return 100 * (model(images).numpy().argmax(axis=1) == test.labels).mean()

        adversarial = attacks.fgsm(model, test.floats, test.labels, epsilon=0.3)
        assert found[row, "clean"] == pytest.approx(right(test.floats))
        assert found[row, "FGSM"] == pytest.approx(right(adversarial))
        assert found[row, "worst"] <= min(
            found[row, column] for column in ("FGSM", "PGD-5", "PGD-40", "PGD-40 margin")
        )
        cells = [cell["values"][row] for cell in content["cells"].values() if row in cell["values"]]
        assert cells == [{c: v for (r, c), v in found.items() if r == row}]
    assert any(found[row, "clean"] > 0 for row in ("standard", "jarn"))
    text = (finished / "table1.md").read_text()
    for part in ("Table 1", "digits", "smoke", "paper", "seed 0", "Standard", "JARN", "PGD-40"):
        assert part in text


def test_a_second_call_trains_nothing_and_writes_the_same(finished, no_training, capsys):
    before = files(finished)
    text = reproduction.reproduce(make(finished))
    assert files(finished) == before
    assert text == before["table1.md"].decode()
    assert "2 of 2" in capsys.readouterr().out


def test_another_experiment_takes_the_models_that_are_there(finished, output, no_training):
    reproduction.reproduce(make(output, "table3"))
    assert means(output, "table3") == means(finished)


class Stop(KeyboardInterrupt):
    """What Ctrl-C raises, at a place of our choice."""


@pytest.mark.parametrize("cell", [0, 1, 3])
def test_an_interrupted_table_goes_on_and_ends_as_the_unbroken_one(
    played, tmp_path, monkeypatch, cell
):
    reproduction.reproduce(make(tmp_path / "unbroken", seeds=(0, 1)))
    played.clear()
    train = training.train

    def stop(*args):
        if len(played) == cell:
            raise Stop
        train(*args)

    with monkeypatch.context() as patch, pytest.raises(Stop):
        patch.setattr(training, "train", stop)
        reproduction.reproduce(make(tmp_path, seeds=(0, 1)))
    path = tmp_path / "table1.json"
    kept = read_json(path)["cells"] if path.exists() else {}
    assert len(kept) == cell
    assert not (tmp_path / "table1.csv").exists()
    reproduction.reproduce(make(tmp_path, seeds=(0, 1)))
    assert len(played) == 4  # each once
    for name in ("table1.csv", "table1.md"):
        assert (tmp_path / name).read_bytes() == (tmp_path / "unbroken" / name).read_bytes()


@pytest.mark.slow
def test_a_table_interrupted_in_training_ends_as_the_unbroken_one(finished, tmp_path):
    """In the training of its second model, after the first of two epochs."""
    (tmp_path / "models").mkdir()
    (folder,) = (finished / "models").glob("*_standard_seed0")
    (tmp_path / "models" / folder.name).symlink_to(folder)
    saved = callbacks.Backup.on_epoch_end

    def on_epoch_end(self, epoch, logs=None):
        saved(self, epoch, logs)
        raise Stop

    with pytest.MonkeyPatch.context() as patch, pytest.raises(Stop):
        patch.setattr(callbacks.Backup, "on_epoch_end", on_epoch_end)
        reproduction.reproduce(make(tmp_path))
    content = read_json(tmp_path / "table1.json")
    assert list(content["cells"]) == ["Standard, seed 0"]
    reproduction.reproduce(make(tmp_path))
    assert (tmp_path / "table1.csv").read_bytes() == (finished / "table1.csv").read_bytes()


@pytest.mark.parametrize("seeds", [(0, 1), (0, 1, 2), (5, 3, 8, 4)])
def test_mean_and_standard_deviation_over_seeds(played, tmp_path, seeds):
    reproduction.reproduce(make(tmp_path, seeds=seeds))
    found = numbers(tmp_path)
    for row in ("standard", "jarn"):
        values = [100 * a["pgd40"] for run, a in played.items() if run.defense == row]
        assert len(values) == len(seeds)
        line = found[row, "PGD-40"]
        assert int(line["seeds"]) == len(seeds)
        assert float(line["mean"]) == pytest.approx(np.mean(values))
        assert float(line["spread"]) == pytest.approx(np.std(values, ddof=1))
    text = (tmp_path / "table1.md").read_text()
    assert f"seeds {', '.join(map(str, sorted(seeds)))}" in text
    assert " ± " in text


def test_one_seed_has_no_spread(played, tmp_path):
    text = reproduction.reproduce(make(tmp_path, seeds=(4,)))
    assert all(line["spread"] == "" for line in numbers(tmp_path).values())
    assert "seed 4" in text and "±" not in text


def test_other_seeds_and_rows_are_added_to_the_file(played, tmp_path):
    reproduction.reproduce(make(tmp_path, rows=("standard",)))
    before = read_json(tmp_path / "table1.json")["cells"]
    reproduction.reproduce(make(tmp_path, rows=("standard",), seeds=(3,)))
    reproduction.reproduce(make(tmp_path, rows=("jarn",)))
    assert [(run.defense, run.seed) for run in played] == [
        ("standard", 0),
        ("standard", 3),
        ("jarn", 0),
    ]
    after = read_json(tmp_path / "table1.json")["cells"]
    assert len(after) == 3 and after.items() >= before.items()
    found = numbers(tmp_path)
    assert found["standard", "FGSM"]["seeds"] == "2"
    assert found["jarn", "FGSM"]["seeds"] == "1"
    reproduction.reproduce(make(tmp_path / "at_once", seeds=(0, 3)))
    at_once = numbers(tmp_path / "at_once")
    assert found["standard", "FGSM"] == at_once["standard", "FGSM"]


def test_a_collapsed_model_is_named_below_the_table(played, tmp_path):
    reproduction.reproduce(make(tmp_path))
    (folder,) = (tmp_path / "models").glob("*_jarn_seed0")
    path = folder / "evaluation.json"
    content = read_json(path)
    path.write_text(json.dumps(content | {"collapsed_to_class": 7}))
    (tmp_path / "table1.json").unlink()
    lines = reproduction.reproduce(make(tmp_path)).splitlines()
    (note,) = [line for line in lines if "collapsed" in line]
    assert "JARN, seed 0" in note and "7" in note


@pytest.mark.parametrize(
    ("change", "parts"),
    [
        ({"scale": "small"}, ["scale", "'smoke'", "'small'"]),
        ({"preset": "authors"}, ["preset", "'paper'", "'authors'"]),
        ({"dataset": "mnist"}, ["dataset", "'digits'", "'mnist'"]),
    ],
)
def test_results_of_another_configuration_are_left_alone(
    finished, tmp_path, no_training, change, parts
):
    for name, content in files(finished).items():
        (tmp_path / name).write_bytes(content)
    before = files(tmp_path)
    with pytest.raises(ValueError, match="another configuration") as error:
        reproduction.reproduce(make(tmp_path, **change))
    for part in (*parts, str(tmp_path), "--output"):
        assert part in str(error.value)
    assert "\n" not in str(error.value)
    assert files(tmp_path) == before


def test_results_of_other_presets_are_left_alone(played, tmp_path, monkeypatch):
    """As after an update of this package that trains the models in another way."""
    reproduction.reproduce(make(tmp_path))
    before = files(tmp_path)
    played.clear()
    monkeypatch.setitem(presets.digits.PAPER.base, "activation", ("gelu", "this test"))
    with pytest.raises(ValueError, match="another configuration: settings of standard"):
        reproduction.reproduce(make(tmp_path, seeds=(1,)))
    assert not played
    assert files(tmp_path) == before


def test_results_made_before_a_row_existed_go_on(played, tmp_path):
    reproduction.reproduce(make(tmp_path))
    path = tmp_path / "table1.json"
    content = read_json(path)
    del content["setting"]["settings of trades"]
    path.write_text(json.dumps(content))
    reproduction.reproduce(make(tmp_path, rows=("standard", "trades")))
    assert len(played) == 3
    assert "settings of trades" in read_json(path)["setting"]


def test_results_outlive_a_new_option_that_is_off(played, tmp_path, monkeypatch):
    """As if the options that are off unless told had not existed."""
    off = ("regularization_interval", "jacobian_penalty", "discriminator_noise")
    whole = config.Config.as_dict
    monkeypatch.setattr(
        config.Config,
        "as_dict",
        lambda run: {name: value for name, value in whole(run).items() if name not in off},
    )
    reproduction.reproduce(make(tmp_path, rows=("standard", "jarn")))
    before = files(tmp_path)
    monkeypatch.undo()
    setting = make(tmp_path, rows=("standard", "jarn"))
    assert all(getattr(setting.config("jarn", 0), name) in (0, 1) for name in off)
    assert json.loads(before["table1.json"])["setting"] == setting.identity()


@pytest.mark.parametrize("damage", ["", "{", "[]", '{"cells": {}}', '{"setting": 3}', None])
def test_a_damaged_result_file_is_left_alone(finished, tmp_path, no_training, damage):
    """None: cut in half."""
    content = (finished / "table1.json").read_text()
    content = content[: len(content) // 2] if damage is None else damage
    (tmp_path / "table1.json").write_text(content)
    with pytest.raises(ValueError, match="table1.json") as error:
        reproduction.reproduce(make(tmp_path))
    assert "\n" not in str(error.value)
    assert files(tmp_path) == {"table1.json": content.encode()}


@pytest.mark.parametrize("missing", ["machine", "versions", "values"])
def test_a_result_file_that_lacks_a_part_is_left_alone(finished, tmp_path, no_training, missing):
    content = read_json(finished / "table1.json")
    first = next(iter(content["cells"].values()))
    del (first if missing == "values" else content)[missing]
    (tmp_path / "table1.json").write_text(json.dumps(content))
    with pytest.raises(ValueError, match="table1.json.*" + missing):
        reproduction.reproduce(make(tmp_path))


def test_a_folder_that_another_process_works_in_is_left_alone(tmp_path, no_training):
    with locked(tmp_path), pytest.raises(ValueError, match="Another process") as error:
        reproduction.reproduce(make(tmp_path))
    assert str(tmp_path) in str(error.value) and "\n" not in str(error.value)
    assert set(files(tmp_path)) == {".lock"}


def test_a_damaged_evaluation_is_made_again(finished, output):
    """In a copy of the models, as the model beside it is whole. Other damage: test_evaluations."""
    (folder,) = (finished / "models").glob("*_standard_seed0")
    (output / "models").unlink()
    copy = output / "models" / folder.name
    shutil.copytree(folder, copy)
    (copy / "evaluation.json").write_text('{"attacks": [{')
    reproduction.reproduce(make(output, rows=("standard",)))
    expected = {place: mean for place, mean in means(finished).items() if "jarn" not in place}
    assert means(output) == expected


def test_a_folder_that_cannot_be_written_is_found_out_before_training(tmp_path, no_training):
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError, match="file"):
        reproduction.reproduce(make(tmp_path / "file" / "out"))


def test_a_model_whose_evaluation_was_replaced_is_evaluated_again(finished, tmp_path):
    """`launch.evaluate` on a model's folder leaves other attacks in its `evaluation.json`."""
    (folder,) = (finished / "models").glob("*_standard_seed0")
    copy = tmp_path / "models" / folder.name
    shutil.copytree(folder, copy, ignore=shutil.ignore_patterns("evaluation.json"))
    evaluating.evaluate(evaluating.finished_run(copy), [Attack("fgsm", 0.1)])
    reproduction.reproduce(make(tmp_path, rows=("standard",)))
    expected = {place: mean for place, mean in means(finished).items() if "jarn" not in place}
    assert means(tmp_path) == expected


# Table 4


@pytest.fixture
def no_dataset(monkeypatch):
    monkeypatch.setattr(data, "load", lambda *args, **kwargs: pytest.fail("loaded a dataset"))


@pytest.mark.slow
def test_table_4_is_seconds_and_their_ratios(no_dataset, tmp_path):
    reproduction.reproduce(make(tmp_path, "table4", rows=("pgd_at", "jarn")))
    found = means(tmp_path, "table4")
    pgd = "pgd_at, mnist_cnn"
    for row in ("jarn, mnist_cnn", pgd):
        for column in ("active step", "epoch"):
            seconds = found[row, f"{column}, s"]
            assert seconds > 0
            ratio = found[row, f"{column} / PGD-AT7"]
            assert ratio == pytest.approx(seconds / found[pgd, f"{column}, s"])


@pytest.fixture
def seconds_of_steps(monkeypatch):
    """Table 4 with steps that take so many seconds, by their kind."""

    def set_to(**seconds):
        monkeypatch.setattr(
            table4, "_medians", lambda steps, rounds: {key: seconds[key[1]] for key in steps}
        )

    return set_to


def test_an_epoch_costs_what_its_kinds_of_steps_add_up_to(seconds_of_steps, no_dataset, tmp_path):
    """Over a whole run, step by step as JARN picks their kinds; no dataset is needed for it."""
    kinds = {JARN.CLASSIFIER: 1.0, JARN.ADVERSARIAL: 3.0, JARN.ADVERSARIAL_AND_DISCRIMINATOR: 7.0}
    seconds_of_steps(**kinds)
    setting = make(tmp_path, "table4", rows=("pgd_at", "jarn"))
    reproduction.reproduce(setting)
    run = setting.config("jarn", 0)
    steps_per_epoch, epochs = 1_294 // run.batch_size, 400
    model = JARN(
        toys.classifier(),
        toys.adaptor(),
        toys.discriminator(),
        start_step=round(run.jarn_start_fraction * epochs * steps_per_epoch),
        discriminator_interval=run.discriminator_interval,
    )
    total = sum(kinds[model.kind_of_step(step)] for step in range(epochs * steps_per_epoch))
    found = means(tmp_path, "table4")
    assert found["jarn, mnist_cnn", "epoch, s"] == pytest.approx(total / epochs, rel=1e-3)
    assert found["pgd_at, mnist_cnn", "epoch, s"] == pytest.approx(steps_per_epoch)
    assert found["jarn, mnist_cnn", "active step, s"] == pytest.approx((9 * 3 + 7) / 10)


@pytest.mark.parametrize("preset", ["paper", "recommended"])
def test_table_4_of_a_term_that_rests(seconds_of_steps, no_dataset, tmp_path, preset):
    """On CIFAR-10's compact network, where `recommended` has it on every 4th step."""
    kinds = {JARN.CLASSIFIER: 1.0, JARN.ADVERSARIAL: 3.0, JARN.ADVERSARIAL_AND_DISCRIMINATOR: 7.0}
    seconds_of_steps(**kinds, **{InputGradientPenalty.RESTING: 0.5})
    options = {"dataset": "cifar10", "scale": "small", "preset": preset}
    setting = make(tmp_path, "table4", rows=("jarn", "double_backprop"), **options)
    reproduction.reproduce(setting)
    found = means(tmp_path, "table4")
    lazy = preset == "recommended"  # the discriminator learns on every second of those steps
    expected = (3 * 1 + 3 + 3 * 1 + 7) / 8 if lazy else (19 * 3 + 7) / 20
    assert found["jarn, compact_cnn", "active step, s"] == pytest.approx(expected)
    expected = (1 + 3 * 0.5) / 4 if lazy else 1
    assert found["double_backprop, compact_cnn", "active step, s"] == pytest.approx(expected)


@pytest.mark.parametrize("rows", [("standard",), ("jarn", "fgsm_at")])
def test_table_4_measures_pgd_at_too_which_its_ratios_are_to(seconds_of_steps, tmp_path, rows):
    kinds = (JARN.CLASSIFIER, JARN.ADVERSARIAL, JARN.ADVERSARIAL_AND_DISCRIMINATOR)
    seconds_of_steps(**dict.fromkeys(kinds, 2.0))
    reproduction.reproduce(make(tmp_path, "table4", rows=rows))
    found = means(tmp_path, "table4")
    assert {row for row, _ in found} == {f"{row}, mnist_cnn" for row in (*rows, "pgd_at")}
    for row in rows:
        assert found[f"{row}, mnist_cnn", "epoch / PGD-AT7"] == pytest.approx(1)


def test_table_4_measures_rows_that_its_file_lacks(seconds_of_steps, tmp_path):
    seconds_of_steps(**{JARN.CLASSIFIER: 1.0})
    reproduction.reproduce(make(tmp_path, "table4", rows=("pgd_at", "standard")))
    reproduction.reproduce(make(tmp_path, "table4", rows=("pgd_at", "fgsm_at")))
    assert ("fgsm_at, mnist_cnn", "epoch, s") in numbers(tmp_path, "table4")


# Table 5


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
    reproduction.reproduce(make(output, "table5", rows=("standard",)))
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
    reproduction.reproduce(make(output, "table5", rows=("standard",), substitute=str(path)))
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
        reproduction.reproduce(make(tmp_path / "out", "table5", substitute=str(path)))
    for part in parts:
        assert part in str(error.value)
    assert "\n" not in str(error.value)
    assert not (tmp_path / "out").exists()


def test_a_substitute_that_is_no_model_is_refused_before_training(tmp_path, no_training):
    (tmp_path / "no.keras").write_text("no model")
    with pytest.raises(ValueError, match="no.keras"):
        reproduction.reproduce(
            make(tmp_path / "out", "table5", substitute=str(tmp_path / "no.keras"))
        )
    assert not (tmp_path / "out").exists()


# Figures


def test_figure_2_is_accuracy_over_the_radius(finished, output, digits, no_training):
    reproduction.reproduce(make(output, "figure2", rows=("standard",)))
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
    reproduction.reproduce(make(output, "figure3", rows=("jarn",)))
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
    reproduction.reproduce(make(output, "figure4"))
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
    text = reproduction.reproduce(make(output, "figure4", rows=("standard",)))
    found = means(output, "figure4")
    assert ("standard", "linearised robustness rho") not in found
    assert found["standard", "images without gradient, %"] == 100
    assert "nan" not in text.lower() and "inf" not in text.lower()


@pytest.mark.parametrize("dataset", arguments.DATASETS)
@pytest.mark.parametrize("preset", config.PRESETS)
def test_figure_5_varies_one_setting_at_a_time(played, tmp_path, dataset, preset):
    setting = make(tmp_path, "figure5", dataset=dataset, preset=preset, rows=None)
    for cell in EXPERIMENTS["figure5"].cells(setting):
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
    reproduction.reproduce(make(tmp_path, "figure5", rows=("jarn",), seeds=(0, 1)))
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
