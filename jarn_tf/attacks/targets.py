"""Which classes targeted attacks aim at."""

from __future__ import annotations

import keras
import numpy as np
import tensorflow as tf

from jarn_tf import losses
from jarn_tf.attacks.ascent import logits_of


def ranked_wrong_classes(
    classifier: keras.Model, images: tf.Tensor, labels: tf.Tensor, number: int
) -> np.ndarray:
    """The likeliest wrong classes of each image, [number, batch] int32, by their logits.

    At most all wrong classes.
    """
    logits = logits_of(classifier, images)
    wrong = tf.where(losses.one_hot(labels, logits) > 0.5, -np.inf, logits)
    ranked = tf.argsort(wrong, axis=-1, direction="DESCENDING")[:, :-1]
    return np.transpose(ranked[:, :number])
