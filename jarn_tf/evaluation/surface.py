"""The loss around an image (Section 4.3.2)."""

from __future__ import annotations

import keras
import numpy as np
import tensorflow as tf

from jarn_tf import arguments, checks, losses
from jarn_tf.jacobian import logits_and_jacobian
from jarn_tf.precision import at_least_float32


def loss_surface(
    classifier: keras.Model,
    images: np.ndarray,
    labels: np.ndarray,
    *,
    epsilon: float,
    points: int = 21,
    seed: int = 0,
) -> np.ndarray:
    """Cross-entropy over a plane through each image.

    One axis is the adversarial direction, the sign of the loss's input gradient; the other a
    random direction of signs orthogonal to it. Both have length 1 in L-infinity, so that the axes
    are radii. Points outside [0, 1] are not clipped: the plane stays a plane.

    Args:
        classifier: Keras model from images in [0, 1] to logits; run in inference mode.
        images: Float images [n, height, width, channels] in [0, 1].
        labels: Integer labels [n] or [n, 1], or one-hot rows.
        epsilon: Largest distance along each axis, in pixel units of [0, 1].
        points: Points an axis.
        seed: Seed of the random directions.

    Returns:
        Losses [n, points, points] at distances `np.linspace(0, epsilon, points)`: first along the
        adversarial, then along the random direction.

    Raises:
        ValueError: Bad images, labels, epsilon or points.
    """
    arguments.radius(epsilon)
    arguments.whole("points", points, least=2)
    images, labels = checks.batch(classifier, images, labels)
    adversarial = np.sign(logits_and_jacobian(classifier, images, labels)[1])
    random = _orthogonal_signs(adversarial, np.random.default_rng(seed))
    distances = np.linspace(0, epsilon, points, dtype=np.float32)
    surface = np.empty((len(images), points, points), np.float32)
    for i, along in enumerate(distances):
        for j, aside in enumerate(distances):
            moved = images + along * adversarial + aside * random
            surface[:, i, j] = _losses(classifier, moved, labels)
    return surface


def _orthogonal_signs(directions: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Random signs whose inner product with each direction (of signs or 0) is at most 1."""
    flat = directions.reshape(len(directions), -1)
    signs = rng.choice([-1.0, 1.0], flat.shape)
    for direction, sign in zip(flat, signs):
        agreeing = direction * sign
        excess = int(agreeing.sum() / 2)  # each flip changes the product by 2
        where = np.flatnonzero(agreeing == np.sign(excess))
        sign[rng.choice(where, abs(excess), replace=False)] *= -1
    return signs.reshape(directions.shape).astype(np.float32)


@tf.function(reduce_retracing=True)
def _losses(classifier, images, labels):
    return losses.cross_entropy(labels, at_least_float32(classifier(images, training=False)))
