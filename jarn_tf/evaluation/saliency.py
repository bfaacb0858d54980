"""How salient a classifier's Jacobians are, and what first-order robustness follows from them."""

from __future__ import annotations

import math

import keras
import numpy as np
import tensorflow as tf

from jarn_tf import checks
from jarn_tf.batches import slices
from jarn_tf.jacobian import input_jacobian
from jarn_tf.precision import at_least_float32, input_gradient


def saliency(
    classifier: keras.Model, images: np.ndarray, labels: np.ndarray, batch_size: int = 500
) -> dict:
    """Numbers for "more salient", over all images.

    Args:
        classifier: Keras model from images in [0, 1] to logits; run in inference mode.
        images: Float images [n, height, width, channels] in [0, 1].
        labels: Integer labels [n] or [n, 1], or one-hot rows.
        batch_size: Images at a time; bounds the memory used.

    Returns:
        `alignment`: median of alpha(x) = |<x, g>| / |g| with g the gradient of the difference of
        the two largest logits (Theorem 3.2; Etmann et al., 2019), in units of pixels; at most
        |x|, which a Jacobian equal to the image has. `linearised_robustness`: median of rho(x),
        the smallest L2 distance to another class were the logits linear (Section 3.1); None where
        it is not finite. `jacobian_image_correlation`: see there, of the loss and of the label's
        logit. `zero_gradients`: share of images whose Jacobian of the loss is exactly 0
        everywhere; `zero_gradient_entries`: share of its single values. Where they are high,
        attacks that follow gradients are blind.

    Raises:
        ValueError: Images outside [0, 1] or not floating point, labels that do not fit.
    """
    alignments, distances, correlations, zero = [], [], [], []
    for part in slices(len(images), batch_size):
        alignment, distance = alignment_and_robustness(classifier, images[part])
        alignments.append(alignment)
        distances.append(distance)
        jacobians = input_jacobian(classifier, images[part], labels[part]).numpy()
        correlations.append(np.abs(_pearson(images[part], jacobians)))
        zero.append((jacobians == 0).mean(axis=(1, 2, 3)))
    distance = float(np.median(np.concatenate(distances)))
    return {
        "alignment": float(np.median(np.concatenate(alignments))),
        "linearised_robustness": distance if math.isfinite(distance) else None,
        "jacobian_image_correlation": {
            "loss": float(np.concatenate(correlations).mean()),
            "logit": jacobian_image_correlation(classifier, images, labels, "logit", batch_size),
        },
        "zero_gradients": float((np.concatenate(zero) == 1).mean()),
        "zero_gradient_entries": float(np.concatenate(zero).mean()),
    }


def alignment_and_robustness(
    classifier: keras.Model, images: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """alpha(x) and rho(x) of Section 3.1 (Etmann et al., 2019) for each image, in inference mode.

    Args:
        classifier: Keras model from images in [0, 1] to logits.
        images: Float images [n, height, width, channels] in [0, 1].

    Returns:
        alpha(x) = |<x, g>| / |g|, g the gradient of the difference of the two largest logits; 0
        where g is 0. rho(x) = min over the other classes j of (largest logit - logit j) / |gradient
        of that difference|; infinite where every such gradient is 0. Both [n], L2 norms.
    """
    checks.classifier(classifier)
    images = tf.convert_to_tensor(images, tf.float32)
    with checks.as_value_error():
        logits, jacobians = (tensor.numpy() for tensor in _logits_and_jacobians(classifier, images))
    rows = np.arange(len(logits))
    order = np.argsort(-logits, axis=1, kind="stable")
    top, second = order[:, 0], order[:, 1]
    differences = (jacobians[rows, top][:, None] - jacobians).reshape(*logits.shape, -1)
    norms = np.linalg.norm(differences.astype(np.float64), axis=-1)
    gaps = logits[rows, top][:, None] - logits.astype(np.float64)
    distances = np.divide(gaps, norms, out=np.full_like(norms, np.inf), where=norms > 0)
    distances[rows, top] = np.inf
    flat = images.numpy().reshape(len(rows), -1).astype(np.float64)
    products = np.abs((flat * differences[rows, second]).sum(axis=1))
    norm = norms[rows, second]
    alignments = np.divide(products, norm, out=np.zeros(len(rows)), where=norm > 0)
    return alignments, distances.min(axis=1)


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
        labels: Integer labels [n] or [n, 1], or one-hot rows.
        of: What J is the gradient of, as in `input_jacobian`.
        batch_size: Images at a time.

    Returns:
        The mean; an image whose Jacobian is constant, all zero for one, counts as 0.
    """
    correlations = []
    for part in slices(len(images), batch_size):
        jacobians = input_jacobian(classifier, images[part], labels[part], of).numpy()
        correlations.append(np.abs(_pearson(images[part], jacobians)))
    return float(np.concatenate(correlations).mean())


@tf.function(reduce_retracing=True)
def _logits_and_jacobians(classifier, images):
    """Logits [n, classes] and their input gradients [n, classes, height, width, channels]."""
    with tf.GradientTape(persistent=True) as tape:
        tape.watch(images)
        logits = at_least_float32(classifier(images, training=False))
        totals = tf.unstack(tf.reduce_sum(logits, axis=0))
    return logits, tf.stack(
        [input_gradient(tape, total, images, classifier) for total in totals], axis=1
    )


def _pearson(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    a, b = (v.reshape(len(v), -1).astype(np.float64) for v in (a, b))
    a, b = a - a.mean(axis=1, keepdims=True), b - b.mean(axis=1, keepdims=True)
    norms = np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1)
    return np.divide((a * b).sum(axis=1), norms, out=np.zeros(len(a)), where=norms > 0)
