"""The fast gradient sign method (Goodfellow et al., 2015)."""

from __future__ import annotations

import keras
import tensorflow as tf

from jarn_tf import arguments, checks
from jarn_tf.attacks.ascent import ascent_direction
from jarn_tf.attacks.linf import linf_bounds, project_linf


def fgsm(
    classifier: keras.Model,
    images: tf.Tensor,
    labels: tf.Tensor,
    *,
    epsilon: float,
    loss: str = "cross_entropy",
) -> tf.Tensor:
    """One step of size epsilon along the sign of the loss's input gradient, no random start.

    Args:
        classifier: Keras model from images in [0, 1] to logits; called with `training=False`.
        images: Float images [batch, height, width, channels] in [0, 1].
        labels: Integer labels [batch] or one-hot rows.
        epsilon: L-infinity radius in pixel units of [0, 1].
        loss: `"cross_entropy"` or `"margin"`.

    Returns:
        Adversarial images, float32, within epsilon of `images` and within [0, 1].

    Raises:
        ValueError: Bad images, labels, epsilon or loss.
    """
    images, labels = checks.batch(classifier, images, labels)
    arguments.radius(epsilon)
    arguments.one_of("loss", loss, arguments.ATTACK_LOSSES)
    bounds = linf_bounds(images, epsilon)
    *_, direction = ascent_direction(classifier, images, labels, loss)
    return project_linf(images + epsilon * direction, bounds)
