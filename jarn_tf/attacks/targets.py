"""Which classes targeted attacks aim at."""

from __future__ import annotations

import keras
import numpy as np
import tensorflow as tf

from jarn_tf import checks, losses
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


def classes_to_reach(classifier: keras.Model, images: object, targets: object) -> np.ndarray:
    """Classes [n] int32 that a user gives. ValueError unless there is one for each image."""
    if isinstance(images, tf.data.Dataset):
        raise ValueError("targets need images as an array. Received: a tf.data.Dataset.")
    found, number = (
        np.asarray(checks.array("targets", targets)),
        len(checks.array("images", images)),
    )
    classes = checks.classes(classifier)
    integers = np.issubdtype(found.dtype, np.integer) and found.shape == (number,)
    if not integers or ((found < 0) | (found >= classes)).any():
        raise ValueError(
            f"targets must be an integer in 0..{classes - 1} for each of {number} images. "
            f"Received: {found.dtype} of shape {found.shape}"
            + (f" from {found.min()} to {found.max()}." if found.size and integers else ".")
        )
    return found.astype(np.int32)
