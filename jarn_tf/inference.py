"""A classifier's answers to any number of images."""

from __future__ import annotations

import keras
import numpy as np
import tensorflow as tf

from jarn_tf import checks
from jarn_tf.batches import slices
from jarn_tf.precision import at_least_float32


def logits_of_all(
    classifier: keras.Model, images: np.ndarray | tf.Tensor, batch_size: int = 500
) -> np.ndarray:
    """Logits [n, classes] in inference mode, compiled.

    Args:
        classifier: Keras model from images in [0, 1] to logits.
        images: Float images [n, height, width, channels].
        batch_size: Images at a time; bounds the memory used.
    """
    batches = (tf.convert_to_tensor(images[part]) for part in slices(len(images), batch_size))
    with checks.as_value_error():
        return np.concatenate([_call(classifier, batch).numpy() for batch in batches])


@tf.function(reduce_retracing=True)
def _call(classifier, images):
    return at_least_float32(classifier(images, training=False))
