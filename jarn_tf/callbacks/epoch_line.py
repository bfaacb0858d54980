"""A line an epoch, for terminals of 100 columns and for log files."""

from __future__ import annotations

import time

import keras
import tqdm

from jarn_tf.metrics import with_values

#: Name in the logs to how a line says it.
_SHOWN = {
    "loss": "loss {:.3g}",
    "penalty": "penalty {:.3g}",
    "accuracy": "accuracy {:.3f}",
    "val_accuracy": "val {:.3f}",
    "val_robust_accuracy": "attacked {:.3f}",
    "adversarial_loss": "L_adv {:.3g}",
}
_GAME = ("discriminator_real_accuracy", "discriminator_adapted_accuracy")


class EpochLine(keras.callbacks.Callback):
    """Prints what an epoch reached; on a terminal a progress bar within it.

    `val` is of validation images, `attacked` of those under attack, `D` the share of real images
    and of adapted Jacobians that JARN's discriminator tells. All the rest is in `history.csv`.
    """

    def on_epoch_begin(self, epoch, logs=None):
        self._started = time.perf_counter()
        steps, epochs = self.params.get("steps"), self.params.get("epochs")
        self._head = f"{epoch + 1}/{epochs}"
        self._bar = tqdm.tqdm(total=steps, desc=self._head, leave=False, disable=None)

    def on_train_batch_end(self, batch, logs=None):
        self._bar.update()

    def on_epoch_end(self, epoch, logs=None):
        self._bar.close()
        logs = with_values(logs)
        shown = [form.format(logs[name]) for name, form in _SHOWN.items() if name in logs]
        if all(name in logs for name in _GAME):
            shown.append("D {:.2f}/{:.2f}".format(*(logs[name] for name in _GAME)))
        seconds = time.perf_counter() - self._started
        print(f"{self._head}, {seconds:.0f} s: {', '.join(shown)}", flush=True)
