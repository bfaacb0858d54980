"""Labels as users have them: integers [n] or [n, 1], as of `keras.datasets`, or one-hot rows."""

from __future__ import annotations

import numpy as np
import tensorflow as tf


def flat(labels: np.ndarray | tf.Tensor) -> np.ndarray | tf.Tensor:
    """Labels [n, 1] as labels [n]; others as they are."""
    return labels[:, 0] if tf.TensorShape(labels.shape)[1:] == [1] else labels


def as_integers(labels: np.ndarray | tf.Tensor) -> np.ndarray:
    """Labels of any of the three kinds as integers [n]."""
    labels = flat(np.asarray(labels))
    return np.argmax(labels, axis=-1) if labels.ndim == 2 else labels
