"""What every gradient attack follows: the gradient of a loss with respect to the image."""

from __future__ import annotations

import keras
import tensorflow as tf

from jarn_tf import losses
from jarn_tf.precision import input_gradient


@tf.function(reduce_retracing=True)
def loss_and_gradient(
    classifier: keras.Model,
    images: tf.Tensor,
    labels: tf.Tensor,
    loss: str,
    targets: tf.Tensor | None = None,
    samples: int = 1,
) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
    """Logits, losses [batch] in inference mode, and the losses' input gradient.

    Losses and gradient are the means of so many passes, where a classifier answers at random; the
    logits are those of the last one.
    """
    logits, values, gradient = _one_pass(classifier, images, labels, loss, targets)
    if samples > 1:
        for _ in tf.range(samples - 1):
            logits, more, steeper = _one_pass(classifier, images, labels, loss, targets)
            values, gradient = values + more, gradient + steeper
        values, gradient = values / samples, gradient / samples
    return logits, values, gradient


def _one_pass(classifier, images, labels, loss, targets):
    with tf.GradientTape() as tape:
        tape.watch(images)
        logits, values = logits_and_loss(classifier, images, labels, loss, targets)
        total = tf.reduce_sum(values)
    return logits, values, input_gradient(tape, total, images, classifier)


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
