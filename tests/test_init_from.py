"""Training that goes on from a trained classifier."""

import json

import keras
import numpy as np
import pytest

from jarn_tf import callbacks
from jarn_tf.runs import training
from jarn_tf.runs.presets import preset, resolve
from jarn_tf.runs.workdir import Workdir

SMALL = {"epochs": 1, "batch_size": 64, "train_examples": 128, "test_examples": 40}


@pytest.fixture
def trained(digits_classifier, tmp_path):
    path = tmp_path / "trained.keras"
    classifier = keras.models.clone_model(digits_classifier)
    classifier.set_weights(digits_classifier.get_weights())
    classifier.layers[0].trainable = False
    classifier.save(path)
    return path


def test_jarn_goes_on_from_a_trained_classifier(trained, tmp_path, capsys, digits):
    config = preset("digits", "jarn", init_from=str(trained), **SMALL)
    found = training.train(config, tmp_path / "run")
    run, printed = Workdir(tmp_path / "run"), capsys.readouterr().out
    old, new = (keras.models.load_model(path) for path in (trained, run.classifier))
    images, labels = digits.test.floats[:40], digits.test.labels[:40]
    before = json.loads(run.before.read_text())
    for classifier, evaluation in ((old, before), (new, found)):
        right = classifier.predict(images, verbose=0).argmax(axis=1) == labels
        assert evaluation["attacks"][0]["accuracy"] == pytest.approx(right.mean())
    assert printed.count("Before: Of 40 test images") == 2
    # Frozen layers stay; the others move, and JARN's term counts from the first step on.
    for a, b in zip(old.layers[0].get_weights(), new.layers[0].get_weights()):
        np.testing.assert_array_equal(a, b)
    assert not new.layers[0].trainable
    assert any(
        (a != b).any() for a, b in zip(old.layers[-1].get_weights(), new.layers[-1].get_weights())
    )
    assert "adversarial_loss" in run.history.read_text().splitlines()[0]
    training.train(config, tmp_path / "run")
    assert "is finished" in capsys.readouterr().out


def test_jarn_begins_at_step_0_and_pixels_end_at_1_unless_told():
    assert preset("mnist", "jarn").jarn_start_fraction > 0
    resolved = resolve("mnist", "jarn", init_from="a.keras")
    assert resolved.config.jarn_start_fraction == 0
    assert "init_from" in resolved.sources["jarn_start_fraction"]
    told = preset("mnist", "jarn", init_from="a.keras", jarn_start_fraction=0.5)
    assert told.jarn_start_fraction == 0.5
    assert preset("mnist", "jarn", "paper").pixel_scale == 255
    assert preset("mnist", "jarn", "paper", init_from="a.keras").pixel_scale == 1
    assert preset("mnist", "jarn", "paper", init_from="a.keras", pixel_scale=2.0).pixel_scale == 2


@pytest.fixture
def of_another_kind(tmp_path):
    """Pixels up to 255 of images of any size to probabilities."""
    inputs = keras.Input((None, None, 1))
    features = keras.layers.Conv2D(8, 5, strides=3, activation="relu")(inputs)
    features = keras.layers.GlobalAveragePooling2D()(features)
    path = tmp_path / "other.keras"
    keras.Model(inputs, keras.layers.Dense(10, "softmax")(features)).save(path)
    return path


def test_a_run_needs_the_file_of_another_kind_once(
    of_another_kind, tmp_path, capsys, digits, monkeypatch
):
    """Interrupted and continued without it, the run ends with the weights of an unbroken one."""
    told = {"pixel_scale": 255.0, "probabilities": True, "epochs": 2}
    config = preset("digits", "standard", init_from=str(of_another_kind), **SMALL | told)
    unbroken, broken = Workdir(tmp_path / "unbroken"), Workdir(tmp_path / "broken")
    training.train(config, unbroken.path, [])
    model = keras.models.load_model(of_another_kind)
    predicted = model.predict(255 * digits.test.floats[:40], verbose=0).argmax(axis=1)
    (clean,) = json.loads(unbroken.before.read_text())["attacks"]
    assert clean["accuracy"] == np.mean(predicted == digits.test.labels[:40])

    begin = callbacks.Backup.on_epoch_begin

    def interrupt(callback, epoch, logs=None):
        if epoch:
            raise KeyboardInterrupt
        begin(callback, epoch, logs)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(callbacks.Backup, "on_epoch_begin", interrupt)
        training.train(config, broken.path, [])
    of_another_kind.unlink()
    for run, said in ((unbroken, "is finished"), (broken, "Continuing")):
        training.train(config, run.path, [])
        assert said in capsys.readouterr().out
    of_both = [keras.models.load_model(run.classifier).get_weights() for run in (unbroken, broken)]
    for a, b in zip(*of_both):
        np.testing.assert_array_equal(a, b)


def test_files_that_hold_no_such_classifier(trained, tmp_path):
    with pytest.raises(ValueError, match="cannot be loaded as a Keras model"):
        training.train(preset(init_from=str(tmp_path / "absent.keras"), **SMALL), tmp_path / "a")
    other = keras.Sequential(
        [keras.Input((8, 8, 1)), keras.layers.Flatten(), keras.layers.Dense(10)]
    )
    other.save(tmp_path / "other.keras")
    with pytest.raises(ValueError, match="does not fit digits"):
        training.train(preset(init_from=str(tmp_path / "other.keras"), **SMALL), tmp_path / "b")


def test_more_epochs_of_a_finished_run_are_another_run(tmp_path):
    run = Workdir(tmp_path / "run")
    run.write_config(preset(**SMALL), 2, "digest")
    with pytest.raises(
        ValueError, match=r"epochs \(there 1, now 2\).*--init_from=.*classifier\.keras"
    ):
        run.refuse_other_config(preset(**SMALL | {"epochs": 2}))
