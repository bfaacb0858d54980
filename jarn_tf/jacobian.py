"""The Jacobian of a classifier with respect to its input images (Eq. 6)."""

from __future__ import annotations

from collections.abc import Callable

import keras
import tensorflow as tf

from jarn_tf import arguments, checks, losses
from jarn_tf.precision import at_least_float32, input_gradient


def logits_and_jacobian(
    classifier: keras.Model,
    images: tf.Tensor,
    labels: tf.Tensor,
    of: str = "loss",
    training: bool = False,
    loss: Callable[[tf.Tensor, tf.Tensor], tf.Tensor] = losses.cross_entropy,
) -> tuple[tf.Tensor, tf.Tensor]:
    """Logits and the input gradient of one scalar per image, from a single forward pass.

    The scalars are summed, not averaged, over the batch before they are differentiated: row i of
    the result is then the gradient for image i alone, whatever the batch size or replica count.

    Args:
        classifier: Keras model from float images [batch, height, width, channels] to logits
            [batch, classes].
        images: Float tensor [batch, height, width, channels] in [0, 1].
        labels: Integer labels [batch] or [batch, 1], or one-hot rows [batch, classes].
        of: What is differentiated. `"loss"`: `loss` (J, Eq. 6). `"softmax"`: the
            probability of the label's class (the authors' released code). `"logit"`: the logit of
            the label's class, whose gradient does not vanish where the classifier is sure.
            `"margin"`: that logit minus the largest other one.
        training: Whether the classifier runs in training mode.
        loss: Function of labels and logits to one value per image, for `of="loss"`.

    Returns:
        Logits [batch, classes] and Jacobian, of the shape of `images`. Both are differentiable
        with respect to the classifier's weights under an outer `tf.GradientTape`.
    """
    arguments.one_of("jacobian_of", of, arguments.JACOBIANS)
    with tf.GradientTape() as tape:
        tape.watch(images)
        logits = at_least_float32(classifier(images, training=training))
        if of == "loss":
            scalars = loss(labels, logits)
        elif of == "margin":
            scalars = -losses.margin(labels, logits)
        else:
            outputs = tf.nn.softmax(logits) if of == "softmax" else logits
            scalars = losses.of_target(labels, outputs)
        total = tf.reduce_sum(scalars)
    return logits, input_gradient(tape, total, images, classifier)


def input_jacobian(
    classifier: keras.Model, images: tf.Tensor, labels: tf.Tensor, of: str = "loss"
) -> tf.Tensor:
    """Jacobian J of a classifier in inference mode (Eq. 6); see `logits_and_jacobian`.

    Args:
        classifier: Keras model from images to logits.
        images: Float images [batch, height, width, channels] in [0, 1], tensor or array.
        labels: Integer labels [batch] or [batch, 1], or one-hot rows [batch, classes].
        of: `"loss"`, `"softmax"`, `"logit"` or `"margin"`.

    Returns:
        Float tensor of the shape of `images`.

    Raises:
        ValueError: Images outside [0, 1] or not floating point, labels that do not fit.
    """
    images, labels = checks.batch(classifier, images, labels)
    return logits_and_jacobian(classifier, images, labels, of)[1]
