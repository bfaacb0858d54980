"""A table: settings, cells, files. Digits at smoke scale; two models are trained, others played."""

import json
import shutil

import keras
import numpy as np
import pytest
from reproducing import files, make, means, numbers

from jarn_tf import arguments, attacks, callbacks
from jarn_tf.evaluation import Attack
from jarn_tf.files import read_json
from jarn_tf.reproduction import reproducing
from jarn_tf.reproduction.setting import EXPERIMENTS, ROWS, SCALES
from jarn_tf.runs import config, evaluating, presets, training
from jarn_tf.runs.workdir import locked

# Settings


@pytest.mark.parametrize("dataset", arguments.DATASETS)
@pytest.mark.parametrize("name", EXPERIMENTS)
def test_every_experiment_has_its_cells_on_every_dataset(tmp_path, name, dataset):
    for scale in SCALES:
        for preset in config.PRESETS:
            setting = make(
                tmp_path, name, dataset=dataset, scale=scale, preset=preset, rows=None, seeds=(0, 3)
            )
            cells = reproducing.find(name).cells(setting)
            assert len({cell.name for cell in cells}) == len(cells)
            if name in ("table4", "overfitting", "levers", "tradeoff", "authors"):
                continue  # one process measures all rows; rows have variants or strengths
            lowest = setting.config("jarn", 0).discriminator_interval == 1  # none is below
            per_model = 9 - lowest if name == "figure5" else 1
            assert len(cells) == 2 * len(reproducing.find(name).rows) * per_model
            assert {cell.seed for cell in cells} == {0, 3}
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("dataset", arguments.DATASETS)
@pytest.mark.parametrize("scale", SCALES)
def test_every_row_is_its_defense_at_the_papers_radius(tmp_path, dataset, scale):
    radius = 0.3 if dataset in ("digits", "mnist") else 8 / 255
    setting = make(tmp_path, dataset=dataset, scale=scale)
    for row in ROWS:
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
    setting = reproducing.make_setting("table2", tmp_path)
    assert (setting.dataset, setting.scale, setting.preset) == ("svhn", "small", "paper")
    assert setting.rows == ("standard", "uniform_noise", "jarn")
    assert make(tmp_path, rows=("all",)).rows == tuple(ROWS)
    seeds = {scale: make(tmp_path, scale=scale).seeds for scale in SCALES}
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
    for part in (
        "Table 1",
        "digits",
        "smoke",
        "paper",
        "seed 0",
        "32 test images",
        "JARN",
        "PGD-40",
    ):
        assert part in text


def test_a_second_call_trains_nothing_and_writes_the_same(finished, no_training, capsys):
    before = files(finished)
    text = reproducing.reproduce(make(finished))
    assert files(finished) == before
    assert text == before["table1.md"].decode()
    assert "2 of 2" in capsys.readouterr().out


def test_another_experiment_takes_the_models_that_are_there(finished, output, no_training):
    reproducing.reproduce(make(output, "table3"))
    assert means(output, "table3") == means(finished)


class Stop(KeyboardInterrupt):
    """What Ctrl-C raises, at a place of our choice."""


@pytest.mark.parametrize("cell", [0, 1, 3])
def test_an_interrupted_table_goes_on_and_ends_as_the_unbroken_one(
    played, tmp_path, monkeypatch, cell
):
    reproducing.reproduce(make(tmp_path / "unbroken", seeds=(0, 1)))
    played.clear()
    train = training.train

    def stop(*args):
        if len(played) == cell:
            raise Stop
        train(*args)

    with monkeypatch.context() as patch, pytest.raises(Stop):
        patch.setattr(training, "train", stop)
        reproducing.reproduce(make(tmp_path, seeds=(0, 1)))
    path = tmp_path / "table1.json"
    kept = read_json(path)["cells"] if path.exists() else {}
    assert len(kept) == cell
    assert not (tmp_path / "table1.csv").exists()
    reproducing.reproduce(make(tmp_path, seeds=(0, 1)))
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
        reproducing.reproduce(make(tmp_path))
    content = read_json(tmp_path / "table1.json")
    assert list(content["cells"]) == ["Standard, seed 0"]
    reproducing.reproduce(make(tmp_path))
    assert (tmp_path / "table1.csv").read_bytes() == (finished / "table1.csv").read_bytes()


@pytest.mark.parametrize("seeds", [(0, 1), (0, 1, 2), (5, 3, 8, 4)])
def test_mean_and_standard_deviation_over_seeds(played, tmp_path, seeds):
    reproducing.reproduce(make(tmp_path, seeds=seeds))
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
    text = reproducing.reproduce(make(tmp_path, seeds=(4,)))
    assert all(line["spread"] == "" for line in numbers(tmp_path).values())
    assert "seed 4" in text and "±" not in text


def test_other_seeds_and_rows_are_added_to_the_file(played, tmp_path):
    reproducing.reproduce(make(tmp_path, rows=("standard",)))
    before = read_json(tmp_path / "table1.json")["cells"]
    reproducing.reproduce(make(tmp_path, rows=("standard",), seeds=(3,)))
    reproducing.reproduce(make(tmp_path, rows=("jarn",)))
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
    reproducing.reproduce(make(tmp_path / "at_once", seeds=(0, 3)))
    at_once = numbers(tmp_path / "at_once")
    assert found["standard", "FGSM"] == at_once["standard", "FGSM"]


def test_a_collapsed_model_is_named_below_the_table(played, tmp_path):
    reproducing.reproduce(make(tmp_path))
    (folder,) = (tmp_path / "models").glob("*_jarn_seed0")
    path = folder / "evaluation.json"
    content = read_json(path)
    path.write_text(json.dumps(content | {"collapsed_to_class": 7}))
    (tmp_path / "table1.json").unlink()
    lines = reproducing.reproduce(make(tmp_path)).splitlines()
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
        reproducing.reproduce(make(tmp_path, **change))
    for part in (*parts, str(tmp_path), "--output"):
        assert part in str(error.value)
    assert "\n" not in str(error.value)
    assert files(tmp_path) == before


def test_results_of_other_presets_are_left_alone(played, tmp_path, monkeypatch):
    """As after an update of this package that trains the models in another way."""
    reproducing.reproduce(make(tmp_path))
    before = files(tmp_path)
    played.clear()
    monkeypatch.setitem(presets.digits.PAPER.base, "activation", ("gelu", "this test"))
    with pytest.raises(ValueError, match="another configuration: settings of standard"):
        reproducing.reproduce(make(tmp_path, seeds=(1,)))
    assert not played
    assert files(tmp_path) == before


def test_results_made_before_a_row_existed_go_on(played, tmp_path):
    reproducing.reproduce(make(tmp_path))
    path = tmp_path / "table1.json"
    content = read_json(path)
    del content["setting"]["settings of trades"]
    path.write_text(json.dumps(content))
    reproducing.reproduce(make(tmp_path, rows=("standard", "trades")))
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
    reproducing.reproduce(make(tmp_path, rows=("standard", "jarn")))
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
        reproducing.reproduce(make(tmp_path))
    assert "\n" not in str(error.value)
    assert files(tmp_path) == {"table1.json": content.encode()}


@pytest.mark.parametrize("missing", ["machine", "versions", "values"])
def test_a_result_file_that_lacks_a_part_is_left_alone(finished, tmp_path, no_training, missing):
    content = read_json(finished / "table1.json")
    first = next(iter(content["cells"].values()))
    del (first if missing == "values" else content)[missing]
    (tmp_path / "table1.json").write_text(json.dumps(content))
    with pytest.raises(ValueError, match="table1.json.*" + missing):
        reproducing.reproduce(make(tmp_path))


def test_a_folder_that_another_process_works_in_is_left_alone(tmp_path, no_training):
    with locked(tmp_path), pytest.raises(ValueError, match="Another process") as error:
        reproducing.reproduce(make(tmp_path))
    assert str(tmp_path) in str(error.value) and "\n" not in str(error.value)
    assert set(files(tmp_path)) == {".lock"}


def test_a_damaged_evaluation_is_made_again(finished, output):
    """In a copy of the models, as the model beside it is whole. Other damage: test_evaluations."""
    (folder,) = (finished / "models").glob("*_standard_seed0")
    (output / "models").unlink()
    copy = output / "models" / folder.name
    shutil.copytree(folder, copy)
    (copy / "evaluation.json").write_text('{"attacks": [{')
    reproducing.reproduce(make(output, rows=("standard",)))
    expected = {place: mean for place, mean in means(finished).items() if "jarn" not in place}
    assert means(output) == expected


def test_a_folder_that_cannot_be_written_is_found_out_before_training(tmp_path, no_training):
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError, match="file"):
        reproducing.reproduce(make(tmp_path / "file" / "out"))


def test_a_model_whose_evaluation_was_replaced_is_evaluated_again(finished, tmp_path):
    """`launch.evaluate` on a model's folder leaves other attacks in its `evaluation.json`."""
    (folder,) = (finished / "models").glob("*_standard_seed0")
    copy = tmp_path / "models" / folder.name
    shutil.copytree(folder, copy, ignore=shutil.ignore_patterns("evaluation.json"))
    evaluating.evaluate(evaluating.finished_run(copy), [Attack("fgsm", 0.1)])
    reproducing.reproduce(make(tmp_path, rows=("standard",)))
    expected = {place: mean for place, mean in means(finished).items() if "jarn" not in place}
    assert means(tmp_path) == expected
