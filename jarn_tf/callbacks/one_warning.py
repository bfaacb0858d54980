"""The base of the warnings that are said once."""

from __future__ import annotations

import keras


class OneWarning(keras.callbacks.Callback):
    """Prints one line after the first epoch with a certain fault, and then looks no more.

    Subclasses say what the fault is; each `fit` begins anew.
    """

    def on_train_begin(self, logs=None):
        self._warned = False

    def on_epoch_end(self, epoch, logs=None):
        if self._warned:
            return
        found = self.fault(epoch, logs or {})
        if found is not None:
            print(f"Warning: after epoch {epoch + 1} {found}")
            self._warned = True

    def fault(self, epoch: int, logs: dict) -> str | None:
        """What is wrong and what to do, as the rest of a sentence; None if nothing is wrong.

        Args:
            epoch: The epoch that has ended, counted from 0.
            logs: Keras's logs of the epoch, name to value.
        """
        raise NotImplementedError
