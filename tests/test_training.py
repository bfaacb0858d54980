import csv
import dataclasses
import json
import shutil
import subprocess
import sys
import time

import commands
import keras
import numpy as np
import pytest
import tensorflow as tf
import toys
from conftest import TINY

from jarn_tf import Defense, callbacks, data
from jarn_tf.evaluation import Attack, robustness
from jarn_tf.files import read_json
from jarn_tf.runs import evaluating, training
from jarn_tf.runs.presets import preset
from jarn_tf.runs.workdir import Workdir, locked


def snapshot(folder):
    return {
        p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*") if p.is_file()
    }


def variables(workdir):
    """Every variable of the newest checkpoint: networks, optimizers, metrics; not its counter."""
    reader = tf.train.load_checkpoint(str(workdir / "checkpoints"))
    names = reader.get_variable_to_shape_map()
    return {
        name: reader.get_tensor(name)
        for name in names
        if "save_counter" not in name and name != "_CHECKPOINTABLE_OBJECT_GRAPH"
    }


def assert_same_run(workdir, expected):
    there, here = variables(expected), variables(workdir)
    assert there.keys() == here.keys()
    assert sum("classifier" in name for name in there) > 8
    for name, value in there.items():
        np.testing.assert_array_equal(here[name], value, err_msg=name)
    assert (workdir / "history.csv").read_text() == (expected / "history.csv").read_text()
    best = [w / "best_robust_classifier.json" for w in (workdir, expected)]
    assert best[0].read_text() == best[1].read_text()
    best = [keras.models.load_model(path.with_suffix(".keras")) for path in best]
    for here, there in zip(*(model.get_weights() for model in best)):
        np.testing.assert_array_equal(here, there)
    loaded = [keras.models.load_model(w / "model.keras") for w in (workdir, expected)]
    toys.assert_same(*map(toys.state, loaded))


class Stop(KeyboardInterrupt):
    """What Ctrl-C raises, at a place of our choice."""


def before_checkpoint(patch, epoch):
    """The row of the epoch is in history.csv, its checkpoint is not."""
    original = callbacks.Backup.on_epoch_end

    def on_epoch_end(self, e, logs=None):
        if e == epoch:
            raise Stop
        original(self, e, logs)

    patch.setattr(callbacks.Backup, "on_epoch_end", on_epoch_end)


def within(patch, epoch):
    def on_train_batch_end(self, batch, logs=None):
        if np.array(self.model.optimizer.iterations) == 4 * epoch + 3:
            raise Stop

    patch.setattr(callbacks.Backup, "on_train_batch_end", on_train_batch_end, raising=False)


def failing_after(patch, epoch):
    """The first loss after the epoch's checkpoint is NaN."""
    original = callbacks.Backup.on_epoch_end

    def on_epoch_end(self, e, logs=None):
        original(self, e, logs)
        if e == epoch:
            bias = self.model.classifier.weights[-1]
            bias.assign(np.full(bias.shape, np.nan))

    patch.setattr(callbacks.Backup, "on_epoch_end", on_epoch_end)


def test_a_run_stopped_again_and_again_ends_as_the_unbroken_one(tiny_config, run_dir, tmp_path):
    """Bit for bit, wherever it stops; epochs from 0, four steps each."""
    workdir = tmp_path / "broken"
    for stop, epoch, saved in (
        (within, 0, None),  # nothing saved yet
        (before_checkpoint, 1, 1),
        (failing_after, 2, 3),
    ):
        expected = (ValueError, "not finite.*step 12") if stop is failing_after else (Stop, None)
        with (
            pytest.MonkeyPatch.context() as patch,
            pytest.raises(expected[0], match=expected[1]) as stopped,
        ):
            stop(patch, epoch)
            training.train(tiny_config, workdir)
        assert "\n" not in str(stopped.value)
        newest = tf.train.latest_checkpoint(str(workdir / "checkpoints"))
        assert (newest and int(newest.rsplit("-", 1)[1])) == saved
        assert not (workdir / "model.keras").exists()
    rows = training.train(tiny_config, workdir)["attacks"]
    assert_same_run(workdir, run_dir)
    assert Workdir(workdir).cpu_minutes() is None  # nothing says what it took before
    assert Workdir(run_dir).cpu_minutes() > 0
    expected = read_json(run_dir / "evaluation.json")["attacks"]
    assert [r["accuracy"] for r in rows] == [r["accuracy"] for r in expected]


def damage_data(checkpoints):
    path = next(checkpoints.glob("ckpt-4.data*"))
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def cut_data(checkpoints):
    path = next(checkpoints.glob("ckpt-4.data*"))
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def empty_index(checkpoints):
    (checkpoints / "ckpt-4.index").write_bytes(b"")


def lose_data(checkpoints):
    next(checkpoints.glob("ckpt-4.data*")).unlink()


@pytest.mark.parametrize("damage", [damage_data, cut_data, empty_index, lose_data])
def test_a_damaged_checkpoint_falls_back_to_the_one_before(
    damage, tiny_config, run_dir, tmp_path, monkeypatch, capsys
):
    workdir = tmp_path / "copy"
    shutil.copytree(run_dir, workdir)
    (workdir / "classifier.keras").unlink()
    damage(workdir / "checkpoints")
    before = tf.train.load_checkpoint(str(workdir / "checkpoints" / "ckpt-3"))
    continued = []

    def fit(model, *args):
        continued.append(int(np.array(model.optimizer.iterations)) // 4)
        continued.append(toys.state(model))
        raise Stop

    monkeypatch.setattr(training, "_fit", fit)
    with pytest.raises(Stop):
        training.train(tiny_config, workdir)
    epochs, restored = continued
    assert epochs == 3
    names = [n for n in before.get_variable_to_shape_map() if "classifier" in n]
    saved = {before.get_tensor(n).tobytes() for n in names}
    for name, value in restored.items():
        if name.startswith("classifier/"):
            assert value.tobytes() in saved, name
    assert "ckpt-4" in capsys.readouterr().out


def test_a_finished_run_is_not_trained_again(tiny_config, run_dir, capsys, monkeypatch):
    before = snapshot(run_dir)
    monkeypatch.setattr(training, "_fit", lambda *args: pytest.fail("trained again"))
    rows = training.train(tiny_config, run_dir)["attacks"]
    assert "finished" in capsys.readouterr().out
    assert snapshot(run_dir) == before
    assert rows == json.loads(before["evaluation.json"])["attacks"]


def test_a_finished_run_of_other_networks_is_refused(tiny_config, run_dir, tmp_path, monkeypatch):
    """As one made before a network was written otherwise."""
    workdir = tmp_path / "copy"
    shutil.copytree(run_dir, workdir)
    before = snapshot(workdir)
    other = dataclasses.replace(tiny_config, discriminator_filters=(3,))
    monkeypatch.setattr(Workdir, "refuse_other_config", lambda self, config: None)
    monkeypatch.setattr(training, "_fit", lambda *args: pytest.fail("trained again"))
    with pytest.raises(ValueError, match="None of the checkpoints") as error:
        training.train(other, workdir)
    assert "\n" not in str(error.value)
    assert snapshot(workdir) == before


def test_another_configuration_is_refused(tiny_config, run_dir):
    before = snapshot(run_dir)
    other = dataclasses.replace(tiny_config, seed=7, adversarial_weight=2.0)
    with pytest.raises(ValueError, match="another configuration") as error:
        training.train(other, run_dir)
    for part in ("seed", "0", "7", "adversarial_weight", str(run_dir)):
        assert part in str(error.value)
    assert "batch_size" not in str(error.value)
    assert "\n" not in str(error.value)
    assert snapshot(run_dir) == before


def test_a_run_made_before_a_setting_existed(tiny_config, run_dir, tmp_path):
    """It goes on with the default, `robust_every` being 1, and with nothing else."""
    content = read_json(run_dir / "config.json")
    del content["config"]["robust_every"], content["config"]["keep_best_robust"]
    (tmp_path / "config.json").write_text(json.dumps(content))
    as_then = dataclasses.replace(tiny_config, keep_best_robust=False)
    Workdir(tmp_path).refuse_other_config(as_then)
    for name, value in (("keep_best_robust", True), ("robust_every", 2)):
        other = dataclasses.replace(as_then, **{name: value})
        with pytest.raises(ValueError, match=f"Different: {name} "):
            Workdir(tmp_path).refuse_other_config(other)
    del content["config"]["seed"], content["config"]["epochs"]  # which has no default
    (tmp_path / "config.json").write_text(json.dumps(content))
    with pytest.raises(ValueError, match="Different: epochs "):
        Workdir(tmp_path).refuse_other_config(as_then)


def test_other_images_under_the_same_name_are_refused(
    tiny_config, run_dir, tmp_path, monkeypatch, digits
):
    labels = digits.train.labels.copy()
    labels[7] = (labels[7] + 1) % 10
    other = dataclasses.replace(digits, train=data.Split(digits.train.images, labels))
    monkeypatch.setattr(training.data, "load", lambda *args: other)
    before = snapshot(run_dir)
    with pytest.raises(ValueError, match="run of digits with other images or labels") as error:
        training.train(tiny_config, run_dir)
    assert "\n" not in str(error.value)
    assert snapshot(run_dir) == before
    content = read_json(run_dir / "config.json")
    del content["data"]  # as in a run made before digests were noted
    (tmp_path / "config.json").write_text(json.dumps(content))
    Workdir(tmp_path).refuse_other_data("digits", other.digest)


@pytest.mark.parametrize("content", ["", "{", "[]", '{"configuration": 1}', '{"config": 3}'])
def test_a_folder_with_a_damaged_config_is_refused(tiny_config, tmp_path, content):
    (tmp_path / "config.json").write_text(content)
    with pytest.raises(ValueError) as error:
        training.train(tiny_config, tmp_path)
    assert "\n" not in str(error.value)
    assert snapshot(tmp_path) == {"config.json": content.encode()}


def test_a_folder_of_another_process(tiny_config, run_dir, monkeypatch):
    before = snapshot(run_dir)
    monkeypatch.setattr(training, "_go_on", lambda *args: pytest.fail("trained"))
    with locked(run_dir):
        for call in (
            lambda: training.train(tiny_config, run_dir),
            lambda: evaluating.evaluate(evaluating.finished_run(run_dir), [Attack("fgsm", 0.1)]),
        ):
            with pytest.raises(ValueError, match="Another process works in") as error:
                call()
            assert "\n" not in str(error.value)
    assert snapshot(run_dir) == before


def test_a_workdir_that_cannot_be_written(tiny_config, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError, match="file"):
        training.train(tiny_config, tmp_path / "file" / "run")


def test_a_batch_larger_than_the_dataset_writes_nothing(tiny_config, tmp_path):
    config = dataclasses.replace(tiny_config, train_examples=63)
    with pytest.raises(ValueError, match="batch_size=64 and 63 training images"):
        training.train(config, tmp_path / "run")
    assert not (tmp_path / "run").exists()


@pytest.mark.slow
def test_two_workers_train_as_one(run_dir, tmp_path):
    """Also if one is killed between: but for the rounding of sums over workers."""
    command = ["-m", "launch.train", "--strategy=multi_worker", f"--workdir={tmp_path / 'run'}"]
    command += [f"--{name}={text}" for name, text in TINY.items()]
    (first, killed), addresses = commands.start_workers(command, command)
    while first.poll() is None and not any((tmp_path / "run" / "checkpoints").glob("*.index")):
        time.sleep(0.1)
    killed.kill()
    commands.assert_one_line(first.communicate()[1], f"Worker 1 ({addresses[1]}) died")
    assert first.returncode == 1
    for worker in commands.start_workers(command, command)[0]:
        error = worker.communicate()[1]
        assert worker.returncode == 0, error
    expected, found = variables(run_dir), variables(tmp_path / "run")
    assert found.keys() == expected.keys()
    del expected["progress/.ATTRIBUTES/py_state"]  # text, with the metrics of each replica
    for name, value in expected.items():
        assert np.linalg.norm(found[name] - value) <= 1e-4 * np.linalg.norm(value), name


# What a finished run leaves


def test_config_json_holds_the_resolved_settings_and_versions(tiny_config, run_dir):
    content = read_json(run_dir / "config.json")
    assert content["config"] == tiny_config.as_dict()
    assert content["versions"]["tensorflow"] == tf.__version__
    assert content["versions"]["keras"] == keras.__version__
    assert {"jarn_tf", "python", "numpy"} <= content["versions"].keys()


def test_model_keras_loads_with_its_optimizers(run_dir):
    """16 steps, JARN's phase from step 4 on, the discriminator learning at every second."""
    model = keras.models.load_model(run_dir / "model.keras")
    assert [int(np.array(getattr(model, o).iterations)) for o in model.OPTIMIZERS] == [16, 12, 6]


def test_import_jarn_tf_is_what_model_keras_needs(run_dir):
    program = """
import sys, jarn_tf
longest = {"tensorflow_datasets", "sklearn.datasets", "sklearn.model_selection", "tensorboard"}
assert not longest & set(sys.modules)
import keras
keras.models.load_model(sys.argv[1])
"""
    done = commands.run("-c", program, run_dir / "model.keras")
    assert done.returncode == 0, done.stderr


def test_classifier_keras_needs_no_jarn(run_dir, tmp_path, digits):
    images = digits.test.floats[:8]
    np.save(tmp_path / "images.npy", images)
    program = """
import sys, keras, numpy as np
model = keras.models.load_model(sys.argv[1])
np.save(sys.argv[3], model(np.load(sys.argv[2])))
assert "jarn_tf" not in sys.modules
"""
    paths = [run_dir / "classifier.keras", tmp_path / "images.npy", tmp_path / "logits.npy"]
    subprocess.run([sys.executable, "-c", program, *paths], check=True, cwd=tmp_path)
    model = keras.models.load_model(run_dir / "model.keras")
    np.testing.assert_allclose(np.load(paths[2]), model(images), rtol=1e-5, atol=1e-6)


def test_the_best_robust_classifier_is_that_of_history_csv(run_dir, tiny_config, digits):
    with open(run_dir / "history.csv", newline="") as file:
        accuracies = [float(row["val_robust_accuracy"]) for row in csv.DictReader(file)]
    best = int(np.argmax(accuracies))
    note = read_json(run_dir / "best_robust_classifier.json")
    assert (note["epoch"], note["val_robust_accuracy"]) == (best, accuracies[best])
    classifier = keras.models.load_model(run_dir / "best_robust_classifier.keras")
    held_out = data.load(
        "digits", None, tiny_config.train_examples, tiny_config.test_examples
    ).validation
    attack = Attack("pgd10", tiny_config.epsilon)
    (row,) = robustness(classifier, held_out.floats, held_out.labels, [attack], progress=False)
    assert row["accuracy"] == pytest.approx(accuracies[best])
    assert min(accuracies) < max(accuracies)


WARNED_OF = {
    "standard": {"CollapseWarning"},
    "pgd_at": {"CollapseWarning", "CatastrophicOverfittingWarning"},
    "jarn": {"CollapseWarning", "DiscriminatorWonWarning", "ConstantAdaptorWarning"},
    "jarn_at": {
        "CollapseWarning", "CatastrophicOverfittingWarning", "DiscriminatorWonWarning",
        "ConstantAdaptorWarning",
    },
}  # fmt: skip


@pytest.mark.parametrize("defense", WARNED_OF)
def test_what_a_run_is_watched_for(tmp_path, monkeypatch, defense):
    given = []

    def fit(self, *args, callbacks, **kwargs):
        given.extend(callbacks)
        raise Stop

    monkeypatch.setattr(Defense, "fit", fit)
    sizes = {"train_examples": 64, "test_examples": 10, "batch_size": 64, "epochs": 6}
    with pytest.raises(Stop):
        training.train(preset("digits", defense, robust_every=3, **sizes), tmp_path)
    names = [type(callback).__name__ for callback in given]
    assert {name for name in names if name.endswith("Warning")} == WARNED_OF[defense]
    (robust,) = [c for c in given if isinstance(c, callbacks.RobustAccuracy)]
    assert (robust.every, robust.keep_best) == (3, None)
    assert names[0] == "RobustAccuracy" and names[-1] == "Backup"


def test_evaluation_json_is_of_the_saved_classifier(run_dir, tiny_config, digits):
    content = read_json(run_dir / "evaluation.json")
    assert content["dataset"] == "digits"
    assert content["examples"] == 64
    rows = {row["name"]: row for row in content["attacks"]}
    assert {"clean", "fgsm", "pgd40"} <= rows.keys()
    for row in rows.values():
        assert {"name", "epsilon", "steps", "restarts", "accuracy", "seconds"} <= row.keys()
    assert rows["pgd40"]["epsilon"] == tiny_config.epsilon
    classifier = keras.models.load_model(run_dir / "classifier.keras")
    test = digits.test.first(64)
    predicted = classifier(test.floats).numpy().argmax(axis=1)
    assert rows["clean"]["accuracy"] == pytest.approx((predicted == test.labels).mean())


def test_deterministic_operations_are_asked_for_before_anything_else(monkeypatch, tmp_path):
    def enable():
        raise Stop

    monkeypatch.setattr(tf.config.experimental, "enable_op_determinism", enable)
    with pytest.raises(Stop):
        training.train(preset("digits", deterministic=True), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_damage_of_a_finished_run_is_said_and_models_are_written_anew(
    tiny_config, run_dir, tmp_path, capsys
):
    workdir = tmp_path / "run"
    shutil.copytree(run_dir, workdir)
    for name in ("classifier.keras", "model.keras"):
        content = (workdir / name).read_bytes()
        (workdir / name).write_bytes(content[: len(content) // 2])
    (workdir / "history.csv").unlink()
    training.train(tiny_config, workdir)
    printed = capsys.readouterr().out
    for said in ("classifier.keras is damaged", "model.keras is damaged", "history.csv is not as"):
        assert said in printed
    for name in ("classifier.keras", "model.keras"):
        models = [keras.models.load_model(folder / name) for folder in (workdir, run_dir)]
        for here, there in zip(*(model.get_weights() for model in models), strict=True):
            np.testing.assert_array_equal(here, there)


def test_a_run_whose_checkpoints_are_gone_says_that_it_begins_anew(tiny_config, tmp_path, capsys):
    for stop in (before_checkpoint, within):
        with pytest.MonkeyPatch.context() as patch, pytest.raises(Stop):
            stop(patch, 0)
            training.train(tiny_config, tmp_path / "run")
    assert capsys.readouterr().out.count("training begins anew") == 1
