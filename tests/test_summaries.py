"""What a run leaves for TensorBoard; how TensorBoard shows it is in test_tensorboard."""

import shutil

import pytest
from events import pictures, written

from jarn_tf.files import read_json
from jarn_tf.runs import evaluations, summaries
from jarn_tf.runs.presets import preset
from jarn_tf.runs.workdir import Workdir


def test_a_picture_of_the_untrained_model_and_of_each_epoch(run_dir):
    """4 epochs of 4 steps; inputs in the same place, Jacobians not the same."""
    found = pictures(run_dir / "train")
    assert [step for step, _ in found] == [0, 4, 8, 12, 16]
    start = found[0][1]
    for _, picture in found[1:]:
        assert picture.shape == start.shape
        same = (picture == start).all(axis=(1, 2))  # of each line of pixels
        assert 1 / 3 <= same.mean() < 0.7  # those of the inputs


def test_test_accuracies_are_shares_at_the_last_step(run_dir):
    rows = read_json(run_dir / "evaluation.json")["attacks"]
    found = written(run_dir / "test")
    names = {"clean": "", "fgsm": "_at_0.0314", "pgd40": "_at_0.0314", "worst_case": "_at_0.0314"}
    expected = {
        f"accuracy/{row['name']}{names[row['name']]}": [(16, pytest.approx(row["accuracy"]))]
        for row in rows
    }
    assert {tag: points for tag, points in found.items() if tag != "evaluation"} == expected


@pytest.mark.parametrize("run", ["train", "validation", "test"])
def test_every_accuracy_is_from_0_to_1(run_dir, run):
    found = written(run_dir / run)
    accuracies = [tag for tag in found if "accuracy" in tag]
    assert len(accuracies) == {"train": 3, "validation": 2, "test": 4}[run]
    for tag in accuracies:
        assert all(0 <= value <= 1 for _, value in found[tag])


def test_the_settings_that_differ_come_first(run_dir):
    ((step, text),) = written(run_dir)["settings"]
    lines = text.item().decode().splitlines()
    assert step == 0
    assert "jarn on digits, preset recommended, seed 0" in lines[0]
    first = lines[2 : lines.index("", 2)]
    assert "| `epochs` | 4 | 100 |" in first
    assert "| `adaptor_trainable` | true | false |" in first
    assert not any("`batch_size`" in line for line in first)
    assert "| `batch_size` | 64 |" in lines
    assert not any("attack_steps" in line for line in lines)  # without effect on this run


def test_a_preset_as_it_is_differs_in_nothing(tmp_path):
    summaries.write_settings(preset("mnist", "pgd_at"), tmp_path)
    ((_, text),) = written(tmp_path)["settings"]
    assert "Every setting is the preset's." in text.item().decode()


def test_training_writes_its_result_as_a_text(run_dir):
    ((step, text),) = written(run_dir / "test")["evaluation"]
    rows = read_json(run_dir / "evaluation.json")["attacks"]
    assert step == 16
    for row in rows:
        assert f"| {row['name']} |" in text.item().decode()
        assert f" {row['accuracy']:.2%} |" in text.item().decode()


@pytest.mark.parametrize("with_config", [True, False])
def test_a_later_verdict_stands_above_what_was_found_before(run_dir, tmp_path, with_config):
    """Without a run around it, as of a model of one's own, at step 0."""
    shutil.copy(run_dir / "evaluation.json", tmp_path)
    if with_config:
        shutil.copy(run_dir / "config.json", tmp_path)
    evidence = {"name": "transfer", "label": "masked", "finding": "It breaks 80 of 100."}
    verdict = {"label": "masked", "epsilon": 0.1, "examples": 100, "evidence": [evidence]}
    old = read_json(run_dir / "evaluation.json")
    row = next(row for row in old["attacks"] if row["name"] == "clean") | {"accuracy": 0.125}
    evaluations.add(tmp_path, old | {"attacks": [row], "verdict": verdict})
    summaries.write_evaluations(Workdir(tmp_path))
    ((step, text),) = written(tmp_path / "test")["evaluation"]
    assert step == (16 if with_config else 0)
    newest, earlier = text.item().decode().split("---\n\n")[-2:]
    for part in ("12.50%", "epsilon 0.1, 100 images: **MASKED**", "transfer", "80 of 100"):
        assert part in newest and part not in earlier
    assert "pgd40" in earlier and "pgd40" not in newest


def test_values_of_hparams_are_of_the_kinds_that_there_are():
    config = preset("digits", "jarn", discriminator_filters=(4, 8), classifier_decay=((0.5, 0.1),))
    shown = summaries._hparams(config)
    assert {type(value) for value in shown.values()} <= {bool, int, float, str}
    assert {"discriminator_filters", "classifier_decay"} <= shown.keys()
