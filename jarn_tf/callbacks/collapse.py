"""Whether the classifier gives every image the same class."""

from __future__ import annotations

import keras
import numpy as np

from jarn_tf.callbacks.classifier import watched_classifier
from jarn_tf.evaluation import only_class


class CollapseWarning(keras.callbacks.Callback):
    """Says after an epoch that the classifier gives every image the same class.

    Adversarial training at a large radius ends there if the radius does not grow slowly enough.

    Args:
        images: Float images [n, height, width, channels] in [0, 1], of several classes.
    """

    def __init__(self, images: np.ndarray):
        super().__init__()
        self.images = images

    def on_epoch_end(self, epoch, logs=None):
        found = only_class(watched_classifier(self.model), self.images)
        if found is not None:
            print(
                f"Warning: after epoch {epoch + 1} the classifier takes all {len(self.images)} "
                f"validation images for class {found}. If that lasts, training has collapsed: "
                "raise epsilon_warmup_fraction, or lower epsilon or the regulariser's weight."
            )
