"""A line an epoch, for terminals of 100 columns and for log files."""

from __future__ import annotations

import time

import keras
import tqdm

from jarn_tf.durations import in_words
from jarn_tf.metrics import with_values

#: Name in the logs to how a line says it.
_SHOWN = {
    "loss": "loss {:.3g}",
    "penalty": "penalty {:.3g}",
    "accuracy": "train {:.3f}",
    "val_accuracy": "val {:.3f}",
    "val_robust_accuracy": "attacked {:.3f}",
}
_GAME = ("discriminator_real_accuracy", "discriminator_adapted_accuracy")


class EpochLine(keras.callbacks.Callback):
    """Prints what an epoch reached and how long is left; on a terminal a progress bar within it.

    `train` is the accuracy on the training images as they are trained on, `val` that on validation
    images, `attacked` that on those under attack, `D` the share of real images and of adapted
    Jacobians that JARN's discriminator tells. All the rest is in `history.csv`.

    What is left is said at the pace of this epoch, without its first step, which may have been
    compiled in it. It is "over" that where JARN's phase, whose steps take longer, comes later or
    began within this epoch.
    """

    def on_epoch_begin(self, epoch, logs=None):
        self._started, self._first_done, self._batches = time.perf_counter(), None, 0
        self._first = _step(self.model)
        steps, epochs = self.params.get("steps"), self.params.get("epochs")
        self._head = f"{epoch + 1}/{epochs}"
        self._bar = tqdm.tqdm(total=steps, desc=self._head, leave=False, disable=None)

    def on_train_batch_end(self, batch, logs=None):
        self._bar.update()
        self._first_done = self._first_done or time.perf_counter()
        self._batches += 1

    def on_epoch_end(self, epoch, logs=None):
        self._bar.close()
        logs = with_values(logs)
        shown = [form.format(logs[name]) for name, form in _SHOWN.items() if name in logs]
        if all(name in logs for name in _GAME):
            shown.append("D {:.2f}/{:.2f}".format(*(logs[name] for name in _GAME)))
        now = time.perf_counter()
        left = self.params.get("epochs") - epoch - 1
        if left:
            over = "over " if self._phase_comes(left) else ""
            shown.append(f"{over}{in_words(left * self._pace(now))} left")
        print(f"{self._head}, {now - self._started:.0f} s: {', '.join(shown)}", flush=True)

    def _pace(self, now: float) -> float:
        """Seconds of an epoch like this one."""
        if self._batches < 2:
            return now - self._started
        return (now - self._first_done) * self._batches / (self._batches - 1)

    def _phase_comes(self, left: int) -> bool:
        """Whether some of the steps to come are of JARN's phase and some of this epoch's not."""
        now = _step(self.model)
        last = now + left * (now - self._first)
        return self._first < getattr(self.model, "start_step", 0) < last


def _step(model: keras.Model) -> int:
    return int(getattr(model, "step", 0))
