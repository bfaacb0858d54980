"""The direction of every gradient attack: the sign of a loss's input gradient."""

from __future__ import annotations

import keras
import tensorflow as tf

from jarn_tf import losses
from jarn_tf.precision import input_gradient


@tf.function(reduce_retracing=True)
def ascent_direction(
    classifier: keras.Model,
    images: tf.Tensor,
    labels: tf.Tensor,
    loss: str,
    targets: tf.Tensor | None = None,
) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
    """Logits, losses [batch] in inference mode, and the sign of the losses' input gradient.

    Where the classifier has no gradient, as behind a rounding, or one that is not a number, the
    direction is 0.
    """
    with tf.GradientTape() as tape:
        tape.watch(images)
        logits, values = logits_and_loss(classifier, images, labels, loss, targets)
        total = tf.reduce_sum(values)
    direction = tf.sign(input_gradient(tape, total, images, classifier))
    return logits, values, tf.where(tf.math.is_nan(direction), 0.0, direction)


def logits_and_loss(classifier, images, labels, loss, targets=None):
    """Logits and losses [batch] in inference mode; `loss` as in `attacks.apgd`.

    With `targets` [batch], the classes aimed at, the targeted form of the loss.
    """
    logits = logits_of(classifier, images)
    if targets is None:
        function = {
            "cross_entropy": losses.cross_entropy,
            "margin": losses.margin,
            "dlr": losses.difference_of_logits_ratio,
        }[loss]
        return logits, function(labels, logits)
    function = {
        "margin": losses.targeted_margin,
        "dlr": losses.targeted_difference_of_logits_ratio,
    }[loss]
    return logits, function(labels, logits, targets)


def logits_of(classifier: keras.Model, images: tf.Tensor) -> tf.Tensor:
    """Logits [batch, classes] in inference mode, float32 whatever the classifier computes in."""
    return tf.cast(classifier(images, training=False), tf.float32)
