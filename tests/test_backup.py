"""Training that is stopped anywhere and goes on ends as training that is not."""

import os
import resource
import shutil
import signal

import keras
import numpy as np
import pytest
import tensorflow as tf
import toys

from jarn_tf import JARN, Defense, attacks, callbacks

IMAGES, LABELS = toys.batch(40)
EPOCHS, STEPS = 3, 5


class Stop(Exception):
    pass


class StopAt(keras.callbacks.Callback):
    """Raises, or sends a signal, at a place."""

    def __init__(self, event, epoch, batch=None, send=None):
        super().__init__()
        self.place, self.send = (event, epoch, batch), send

    def on_epoch_begin(self, epoch, logs=None):
        self.epoch = epoch

    def on_train_batch_end(self, batch, logs=None):
        self._at("batch", batch)

    def on_test_begin(self, logs=None):
        self._at("validation")

    def on_epoch_end(self, epoch, logs=None):
        self._at("epoch end")

    def _at(self, event, batch=None):
        if (event, self.epoch, batch) == self.place:
            if self.send is None:
                raise Stop
            os.kill(os.getpid(), self.send)


def defense(strategy=None, **options):
    """A JARN whose classifier draws random numbers, whose phase begins in the second epoch."""
    with (strategy or tf.distribute.get_strategy()).scope():
        classifier = toys.classifier()
        random = keras.Sequential(
            [keras.Input(toys.IMAGE_SHAPE), keras.layers.Dropout(0.2), *classifier.layers]
        )
        model = JARN(
            random,
            toys.adaptor(),
            toys.discriminator(batch_norm=True),
            discriminator_interval=2,
            start_step=7,
            perturb=attacks.UniformNoise(0.1),
        )
        model.compile(
            keras.optimizers.Adam(0.01),
            metrics=["accuracy", keras.metrics.SparseTopKCategoricalAccuracy(2)],
            **options,
        )
    return model


def fit(folder, *others, strategy=None, watched=(), **options):
    """Goes on with what is in the folder."""
    model = defense(strategy, **options)
    backup = callbacks.Backup(folder, model, 1e-9, watched)
    batches = tf.data.Dataset.from_tensor_slices((IMAGES, LABELS)).batch(8)
    history = model.fit(
        batches,
        validation_data=batches,
        epochs=EPOCHS,
        initial_epoch=backup.initial_epoch,
        verbose=0,
        callbacks=[*others, *watched, backup],
    ).history
    return model, history


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory):
    model, history = fit(tmp_path_factory.mktemp("unbroken"))
    return toys.state(model), history


def assert_ends_as(unbroken, model, history):
    """Weights and slots of all three optimizers, and the last epoch's metrics, bit for bit."""
    state, whole = unbroken
    toys.assert_same(toys.state(model), state)
    assert history.keys() == whole.keys()
    for name, values in history.items():
        np.testing.assert_array_equal(values[-1], whole[name][-1], err_msg=name)


@pytest.mark.parametrize(
    "places",
    [
        [("batch", 0, 0), ("batch", 0, 3), ("batch", 1, 2)],  # the third is in JARN's phase
        [("batch", 1, 4), ("epoch end", 2, None)],
        [("validation", 2, None)],
    ],
)
def test_stopped_within_an_epoch(places, unbroken, tmp_path):
    for place in places:
        with pytest.raises(Stop):
            fit(tmp_path, StopAt(*place))
    assert_ends_as(unbroken, *fit(tmp_path))


@pytest.mark.parametrize(
    "place", [("batch", 1, 2), ("validation", 1, None), ("epoch end", 1, None)]
)
def test_sigterm_saves_and_exits_with_status_0(place, unbroken, tmp_path):
    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(SystemExit) as stopped:
        fit(tmp_path, StopAt(*place, send=signal.SIGTERM))
    assert stopped.value.code == 0
    signal.signal(signal.SIGTERM, before)
    model = defense()
    backup = callbacks.Backup(tmp_path, model)
    done = 3 if place[0] == "batch" else STEPS
    assert (backup.initial_epoch, backup.steps_done) == (1, done)
    assert int(model.step) == STEPS + done
    assert_ends_as(unbroken, *fit(tmp_path))
    assert signal.getsignal(signal.SIGTERM) == before


def test_several_steps_per_execution(tmp_path):
    whole, history = fit(tmp_path / "unbroken", steps_per_execution=2)
    for place in (("batch", 0, 3), ("batch", 1, 3)):
        with pytest.raises(Stop):
            fit(tmp_path / "broken", StopAt(*place), steps_per_execution=2)
    found = fit(tmp_path / "broken", steps_per_execution=2)
    assert_ends_as((toys.state(whole), history), *found)


def test_two_replicas(two_replicas, tmp_path):
    whole, history = fit(tmp_path / "unbroken", strategy=two_replicas)
    with pytest.raises(Stop):
        fit(tmp_path / "broken", StopAt("batch", 1, 2), strategy=two_replicas)
    found = fit(tmp_path / "broken", strategy=two_replicas)
    assert_ends_as((toys.state(whole), history), *found)


def test_what_callbacks_remember(tmp_path):
    """`EarlyStopping` counts on; what it was made with is that of the new one."""
    folder = tmp_path / "broken"

    def stopping(patience):
        return keras.callbacks.EarlyStopping("accuracy", mode="min", patience=patience)

    with pytest.raises(Stop):
        fit(folder, StopAt("batch", 2, 1), watched=[stopping(9)])
    again = stopping(8)
    fit(folder, watched=[again])
    whole = stopping(8)
    fit(tmp_path / "whole", watched=[whole])
    assert (again.wait, again.best, again.patience) == (whole.wait, whole.best, 8)
    assert whole.wait


@pytest.mark.parametrize("last_batch", [0, 3])
def test_a_rate_that_each_epoch_changes(tmp_path, last_batch):
    """Once, also in the epoch that is begun again or gone on with."""

    def halving():
        return keras.callbacks.LearningRateScheduler(lambda epoch, rate: rate / 2)

    with pytest.raises(Stop):
        fit(tmp_path, halving(), StopAt("batch", 1, last_batch))
    model, _ = fit(tmp_path, halving())
    assert float(model.classifier_optimizer.learning_rate) == pytest.approx(0.01 / 2**EPOCHS)


def test_what_does_not_fit_the_checkpoint(tmp_path):
    with pytest.raises(Stop):
        fit(tmp_path, StopAt("batch", 0, 3))
    other = defense()
    other.compile(keras.optimizers.SGD(0.1))
    with pytest.raises(ValueError, match="of another model, optimizer or version"):
        callbacks.Backup(tmp_path, other)
    model = defense()
    backup = callbacks.Backup(tmp_path, model)
    for options, message in (
        (
            {"x": IMAGES[:16], "y": LABELS[:16], "batch_size": 8},
            "3 steps into an epoch, which has 2",
        ),
        ({"x": IMAGES, "y": LABELS, "initial_epoch": 1, "epochs": 2}, "initial_epoch=backup"),
    ):
        with pytest.raises(ValueError, match=message):
            model.fit(**options, verbose=0, callbacks=[callbacks.Backup(tmp_path, model)])
    with pytest.raises(ValueError, match="of the model that it was made with"):
        defense().fit(IMAGES, LABELS, verbose=0, callbacks=[backup])
    best = keras.callbacks.EarlyStopping(restore_best_weights=True)
    with pytest.raises(ValueError, match="restore_best_weights=False"):
        callbacks.Backup(tmp_path, model, callbacks=[best])


def test_a_second_fit_passes_nothing_by(tmp_path):
    with pytest.raises(Stop):
        fit(tmp_path, StopAt("batch", 0, 3))
    model = defense()
    backup = callbacks.Backup(tmp_path, model)
    batches = tf.data.Dataset.from_tensor_slices((IMAGES, LABELS)).batch(8)
    for steps in (STEPS, 2 * STEPS):
        model.fit(batches, verbose=0, callbacks=[backup])
        assert int(model.step) == steps


def test_checkpoints_none_of_which_can_be_read(tmp_path):
    with pytest.raises(Stop):
        fit(tmp_path, StopAt("batch", 0, 3))
    files = sorted(path.name for path in tmp_path.glob("ckpt-*"))
    assert len(files) == 4  # two checkpoints
    for path in tmp_path.glob("ckpt-*.data*"):
        path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(ValueError, match="None of the checkpoints") as error:
        callbacks.Backup(tmp_path, defense())
    assert "\n" not in str(error.value)
    assert sorted(path.name for path in tmp_path.glob("ckpt-*")) == files


@pytest.mark.parametrize("damage", [b"\xe5", b"{"])
def test_a_damaged_list_of_checkpoints(tmp_path, damage):
    with pytest.raises(Stop):
        fit(tmp_path, StopAt("batch", 0, 3))
    (tmp_path / "checkpoint").write_bytes(damage + (tmp_path / "checkpoint").read_bytes())
    assert callbacks.Backup(tmp_path, defense()).steps_done == 3


def test_checkpoints_of_another_network_leave_this_one(tmp_path):
    """Also of one with as many variables, of the same class and optimizer."""
    for channels in (4, 5):
        network = toys.classifier()
        image, logits = network.inputs, keras.layers.Dense(channels)(network.outputs[0])
        model = Defense(keras.Model(image, keras.layers.Dense(3)(logits)))
        model.compile("adam")
        if channels == 4:
            model.fit(IMAGES, LABELS, verbose=0, callbacks=[callbacks.Backup(tmp_path, model)])
    before = toys.state(model)
    with pytest.raises(ValueError, match="of another model"):
        callbacks.Backup(tmp_path, model)
    toys.assert_same(toys.state(model), before)


def test_sigterm_after_a_fit_that_failed(tmp_path):
    """Does what it did before."""
    received = []
    before = signal.signal(signal.SIGTERM, lambda *_: received.append(1))
    try:
        with pytest.raises(Stop):
            fit(tmp_path, StopAt("batch", 0, 3))
        os.kill(os.getpid(), signal.SIGTERM)
        assert received
    finally:
        signal.signal(signal.SIGTERM, before)


def test_weights_that_are_not_finite_are_not_saved(tmp_path):
    class Spoil(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            kernel = self.model.classifier.weights[0]
            kernel.assign(np.full(kernel.shape, np.inf))

    with pytest.raises(ValueError, match="not finite in epoch 1"):
        fit(tmp_path, Spoil())
    model = defense()
    assert callbacks.Backup(tmp_path, model).steps_done == STEPS - 1
    assert np.isfinite(model.classifier.weights[0]).all()


def test_a_full_disk_leaves_the_checkpoints_before(tmp_path):
    """The system's limit on the size of a file stands for the disk."""

    class Fill(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            resource.setrlimit(resource.RLIMIT_FSIZE, (1000, most))

    usual, most = resource.getrlimit(resource.RLIMIT_FSIZE)
    try:
        with pytest.raises(OSError, match="cannot be written") as error:
            fit(tmp_path, Fill())
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (usual, most))
    assert "\n" not in str(error.value) and str(tmp_path) in str(error.value)
    backup = callbacks.Backup(tmp_path, defense())
    assert (backup.initial_epoch, backup.steps_done) == (0, STEPS - 1)


def test_a_plateau_of_a_loss_is_noticed_as_in_an_unbroken_run(tmp_path):
    """Keras turns the sign of `min_delta` in the first epoch of a process."""

    def plateau():
        return keras.callbacks.ReduceLROnPlateau("val_loss", patience=1, min_delta=0.5)

    watched = [plateau()]
    whole, history = fit(tmp_path / "whole", watched=watched)
    with pytest.raises(Stop):
        fit(tmp_path / "broken", StopAt("batch", 2, 1), watched=[plateau()])
    found = fit(tmp_path / "broken", watched=[plateau()])
    assert float(whole.classifier_optimizer.learning_rate) < 0.01
    assert_ends_as((toys.state(whole), history), *found)


def test_a_folder_that_is_removed_ends_training(tmp_path):
    class Remove(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            shutil.rmtree(tmp_path / "checkpoints")

    with pytest.raises(FileNotFoundError, match="is gone"):
        fit(tmp_path / "checkpoints", Remove())
    assert not (tmp_path / "checkpoints").exists()
