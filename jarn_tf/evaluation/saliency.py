"""How much a classifier's Jacobians look like its images."""

from __future__ import annotations

import keras
import numpy as np

from jarn_tf.jacobian import input_jacobian


def jacobian_image_correlation(
    classifier: keras.Model,
    images: np.ndarray,
    labels: np.ndarray,
    of: str = "logit",
    batch_size: int = 500,
) -> float:
    """Mean over images of |Pearson correlation| between an image and its Jacobian, 0 to 1.

    The alignment of Eq. 13 with both means removed and divided by the norm of the image. The sign
    is left out, as there: J of the loss points away from the class, J of the logit towards it.

    Args:
        classifier: Keras model from images in [0, 1] to logits.
        images: Float images [n, height, width, channels] in [0, 1].
        labels: Integer labels [n].
        of: What J is the gradient of, as in `input_jacobian`.
        batch_size: Images at a time.

    Returns:
        The mean; an image whose Jacobian is constant, all zero for one, counts as 0.
    """
    correlations = []
    for start in range(0, len(images), batch_size):
        part = slice(start, start + batch_size)
        jacobians = input_jacobian(classifier, images[part], labels[part], of).numpy()
        correlations.append(np.abs(_pearson(images[part], jacobians)))
    return float(np.concatenate(correlations).mean())


def _pearson(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    a, b = (v.reshape(len(v), -1).astype(np.float64) for v in (a, b))
    a, b = a - a.mean(axis=1, keepdims=True), b - b.mean(axis=1, keepdims=True)
    norms = np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1)
    return np.divide((a * b).sum(axis=1), norms, out=np.zeros(len(a)), where=norms > 0)
