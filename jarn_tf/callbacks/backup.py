"""Checkpoints from which training goes on to the weights of an unbroken run."""

from __future__ import annotations

import os
import signal
import threading
import time
import traceback
from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from jarn_tf import arguments
from jarn_tf.callbacks.checkpoints import Checkpoints, values
from jarn_tf.defense import Defense


class Backup(keras.callbacks.Callback):
    """Keeps what training needs to go on exactly where it stopped, also inside an epoch.

    That is: networks, optimizers, the step, the epoch's metrics so far, random generators of
    layers, and what `callbacks` remember. Two checkpoints are kept; each is written aside,
    checksummed and renamed, so a kill at any moment leaves one that is whole. Give `fit` the epoch
    to begin with, and put this callback last:

        backup = callbacks.Backup("checkpoints", model)
        model.fit(data, initial_epoch=backup.initial_epoch, callbacks=[..., backup])

    Batches of a begun epoch that are trained are read again and passed by. So training is exact if
    every epoch's batches come in the same order again: NumPy arrays with `shuffle=False`, a
    `tf.data.Dataset` or `PyDataset` that does not depend on what was read before.

    SIGTERM, which Slurm, Kubernetes and spot machines send, saves and ends the process with exit
    status 0; a second one ends it at once.

    Several workers would all have to save at the same step. There `seconds` does nothing, SIGTERM
    saves nothing, and there is a checkpoint at the end of each epoch. The first worker writes them.

    Args:
        folder: Where the checkpoints are.
        model: A compiled `Defense`. It is given the state of the newest checkpoint that can be
            read.
        seconds: Time between two checkpoints inside an epoch; 0 for those at its end alone.
        callbacks: Callbacks whose plain attributes (numbers, truth values, text) are kept, which is
            what `EarlyStopping`, `ReduceLROnPlateau` and the warnings remember. The same call goes
            on with a `fit` that `EarlyStopping` has ended.

    Attributes:
        initial_epoch: Number of the epoch to begin or to go on with, for `fit`.
        steps_done: Steps of that epoch that are trained.

    Raises:
        ValueError: No checkpoint of those in the folder can be read or is of this model, its list
            names others, or a bad argument; in `fit`: a weight is not finite, or epoch, metrics or
            number of steps do not fit the checkpoint.
        OSError: In `fit`: a checkpoint cannot be written. The ones before are left as they are.
    """

    def __init__(
        self,
        folder: str | os.PathLike,
        model: Defense,
        seconds: float = 300.0,
        callbacks: Sequence[keras.callbacks.Callback] = (),
    ):
        super().__init__()
        arguments.not_negative("seconds", seconds)
        if not isinstance(model, Defense):
            raise ValueError(f"model must be a jarn_tf.Defense or JARN. Received: {model!r}.")
        if any(getattr(callback, "restore_best_weights", False) for callback in callbacks):
            raise ValueError(
                "EarlyStopping's best weights are not kept. Give restore_best_weights=False."
            )
        self.seconds = seconds
        self.callbacks = tuple(callbacks)
        self._of = model
        self._alone = model.distribute_strategy.cluster_resolver is None
        self._checkpoints = Checkpoints(folder, model)
        self._resumed = dict(self._checkpoints.progress)
        self.initial_epoch = self._resumed.get("epoch", 0)
        self.steps_done = self._resumed.get("step", 0)
        self._epoch = self.initial_epoch
        self._at_first = [_plain_attributes(callback) for callback in self.callbacks]
        self._remind()

    def on_train_begin(self, logs=None):
        if self.model is not self._of:
            raise ValueError("A Backup is of the model that it was made with. Received another.")
        self._remind()  # again, after callbacks that forget all when training begins
        self._resumed.pop("callbacks", None)  # a second `fit` begins anew
        self._saved()
        self._at_rest: dict[str, Any] | None = None
        self._asked_to_stop = False
        if self._alone and threading.current_thread() is threading.main_thread():
            self._handler_before = signal.signal(signal.SIGTERM, self._on_sigterm)

    def on_epoch_begin(self, epoch, logs=None):
        self._epoch = epoch
        if "metrics" not in self._resumed:  # nothing to go on with, or gone on already
            return
        metrics, steps = self._resumed.pop("metrics"), self.params["steps"]
        if epoch != self.initial_epoch:
            raise ValueError("Training goes on: give fit initial_epoch=backup.initial_epoch.")
        if steps is not None and self.steps_done > steps:
            raise ValueError(
                f"The checkpoint is {self.steps_done} steps into an epoch, which has {steps} now."
            )
        if self.steps_done:
            # Again, as callbacks have begun this epoch twice; some change the learning rate then.
            self._checkpoints.restore()
            self._pass_by(self.steps_done, metrics)

    def on_train_batch_begin(self, batch, logs=None):
        self._at_rest = None

    def on_train_batch_end(self, batch, logs=None):
        steps = self.params["steps"]  # None in a first epoch of unknown length
        done = min(batch + 1, steps or batch + 1)
        late = self.seconds and time.monotonic() - self._saved_at >= self.seconds
        if done == steps:  # validation will overwrite the metrics
            self._at_rest = self._state(done)
        elif self._alone and (late or self._asked_to_stop) and self._trained():
            self._save(self._state(done))
        if self._asked_to_stop:
            self._stop()

    def on_epoch_end(self, epoch, logs=None):
        self._at_rest = None
        self._save(self._state(0) | {"epoch": epoch + 1})
        if self._asked_to_stop:
            self._stop()

    def on_train_end(self, logs=None):
        if hasattr(self, "_handler_before"):
            signal.signal(signal.SIGTERM, self._handler_before)

    # Saving

    def _state(self, steps_done: int) -> dict[str, Any]:
        """What is to be known beside the checkpoint's variables, as JSON values."""
        return {
            "epoch": self._epoch,
            "step": steps_done,
            "metrics": [values(local) for local in self._metric_variables()],
            # Without what they were made with, which may be another when training goes on.
            "callbacks": [
                dict(_plain_attributes(callback).items() - first.items())
                for callback, first in zip(self.callbacks, self._at_first)
            ],
        }

    def _save(self, state: dict[str, Any]) -> None:
        if not all(np.isfinite(weight).all() for weight in self.model.get_weights()):
            raise ValueError(
                f"The weights are not finite in epoch {self._epoch + 1}. Training stopped; the "
                "last good checkpoint is kept. Lower the learning rate or the regulariser's weight."
            )
        self._checkpoints.save(state)
        self._saved()

    def _saved(self) -> None:
        self._saved_at, self._saved_step = time.monotonic(), int(self.model.step)

    def _trained(self) -> bool:
        """Whether there was a step since the last checkpoint."""
        with tf.init_scope():  # the signal may come while a step is traced
            return int(self.model.step) != self._saved_step

    def _on_sigterm(self, number, frame):
        # A `fit` that an exception ends tells no callback.
        fits = (f for f, _ in traceback.walk_stack(frame) if f.f_code.co_name == "fit")
        if all(f.f_locals.get("self") is not self.model for f in fits):
            signal.signal(number, self._handler_before)
            os.kill(os.getpid(), number)
            return
        if self._asked_to_stop:
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)
        self._asked_to_stop = True
        if self._at_rest is not None or not self._trained():
            self._stop()  # else at the end of the step, when metrics and weights are of one state

    def _stop(self):
        if self._at_rest is not None:
            self._save(self._at_rest)
        print(f"Stopped in epoch {self._epoch + 1}. The same call again goes on from there.")
        raise SystemExit(0)

    # Going on

    def _remind(self) -> None:
        """Gives the callbacks what they remember."""
        for callback, state in zip(self.callbacks, self._resumed.get("callbacks", [])):
            known = _plain_attributes(callback)
            vars(callback).update({name: state[name] for name in state if name in known})

    def _pass_by(self, steps: int, metrics: list) -> None:
        """Reads the batches of so many steps without training, and then sets the metrics."""
        model, train_function = self.model, self.model.train_function

        def read(iterator):
            nonlocal steps
            model.build_metrics(iterator)
            if len(metrics) != len(self._metric_variables()):
                raise ValueError("The metrics are others than those of the checkpoint.")
            for _ in range(min(steps, model.steps_per_execution)):
                next(iterator)
                steps -= 1
            if not steps:
                model.train_function = train_function
                for local, kept in zip(self._metric_variables(), metrics, strict=True):
                    for variable, value in zip(local, kept, strict=True):
                        variable.assign(tf.cast(value, variable.dtype))
            return model.get_metrics_result()

        model.train_function = read

    def _metric_variables(self) -> list[tuple[tf.Variable, ...]]:
        """Every variable of the metrics, one of each replica here."""
        local = self.model.distribute_strategy.experimental_local_results
        return [local(v.value) for metric in self.model.metrics for v in metric.variables]


def _plain_attributes(callback: keras.callbacks.Callback) -> dict[str, Any]:
    kept = {}
    for name, value in vars(callback).items():
        # Keras turns its sign in the first epoch of each process. By its name, as no rule tells it
        # from what a callback counts: that may be an argument of its constructor too.
        if name == "min_delta":
            continue
        value = value.item() if isinstance(value, np.generic) else value
        if value is None or isinstance(value, (bool, int, float, str)):
            kept[name] = value
    return kept
