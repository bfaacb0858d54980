"""A checkpoint an epoch, from which a run resumes."""

from __future__ import annotations

import keras
import numpy as np
import tensorflow as tf


class CheckpointEachEpoch(keras.callbacks.Callback):
    """Saves everything that resuming needs at the end of each epoch.

    Put it last, so that an epoch that has a checkpoint has its row and its summaries too.

    Args:
        manager: The manager of a checkpoint of the model.

    Raises:
        ValueError: A weight is not finite; the checkpoints are left as they are.
    """

    def __init__(self, manager: tf.train.CheckpointManager):
        super().__init__()
        self.manager = manager

    def on_epoch_end(self, epoch, logs=None):
        if not all(np.isfinite(weight).all() for weight in self.model.get_weights()):
            raise ValueError(
                f"The weights are not finite after epoch {epoch + 1}. Training stopped; the last "
                "good checkpoint is kept. Lower the learning rate or the regulariser's weight."
            )
        self.manager.save(checkpoint_number=epoch + 1)
