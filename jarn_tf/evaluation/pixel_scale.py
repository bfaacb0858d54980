"""The hint that a classifier expects pixels up to 255, which is given images in [0, 1]."""

from __future__ import annotations

import warnings

import keras
import numpy as np

from jarn_tf import checks
from jarn_tf.inference import logits_of_all
from jarn_tf.labels import as_integers

_LOOKED_AT = 500
_BETTER = 0.2


class PixelScaleWarning(UserWarning):
    """A classifier is much better at the images times 255."""


def accuracy_on_255(
    classifier: keras.Model, images: np.ndarray, labels: np.ndarray
) -> float | None:
    """Accuracy, 0 to 1, at the first 500 images times 255; None where it is not much better.

    Args:
        classifier: Keras model from images in [0, 1] to logits; run in inference mode.
        images: Images [n, height, width, channels], floating point in [0, 1] or `uint8`.
        labels: Integer labels [n] or [n, 1], or one-hot rows.
    """
    images = checks.floats(images[:_LOOKED_AT]).numpy()
    labels = as_integers(labels[:_LOOKED_AT])
    clean, scaled = (
        float(np.mean(logits_of_all(classifier, given).argmax(axis=1) == labels))
        for given in (images, 255 * images)
    )
    return scaled if scaled > clean + _BETTER else None


def hint(accuracy: float) -> str:
    """What `accuracy_on_255` means and what to do."""
    return (
        f"{accuracy:.2%} of the first images are right once they are multiplied by 255: the model "
        "expects pixels up to 255. Give --pixel_scale=255, or "
        "jarn_tf.as_classifier(model, pixel_scale=255)."
    )


def warn(classifier: keras.Model, images: np.ndarray, labels: np.ndarray) -> None:
    """Gives the hint as a `PixelScaleWarning`, at the line that called the caller."""
    accuracy = accuracy_on_255(classifier, images, labels)
    if accuracy is not None:
        warnings.warn(hint(accuracy), PixelScaleWarning, stacklevel=3)
