"""Losses on logits: cross-entropy (Eq. 5), the adversarial loss (Eq. 9), those of attacks.

Every function returns one value per image, so that the caller decides how to average and no
result depends on how a batch is split over replicas.
"""

from __future__ import annotations

import inspect
import textwrap
from collections.abc import Callable

import keras
import tensorflow as tf

from jarn_tf.labels import flat


def one_hot(labels: tf.Tensor, logits: tf.Tensor) -> tf.Tensor:
    """Labels as one-hot rows [batch, classes]; rows are passed through, integers encoded."""
    labels = flat(labels)
    if labels.shape.rank == 2:
        return tf.cast(labels, logits.dtype)
    return tf.one_hot(tf.cast(labels, tf.int32), logits.shape[-1], dtype=logits.dtype)


def of_target(labels: tf.Tensor, outputs: tf.Tensor) -> tf.Tensor:
    """The output [batch] of each image's labelled class."""
    return tf.reduce_sum(one_hot(labels, outputs) * outputs, axis=-1)


def cross_entropy(labels: tf.Tensor, logits: tf.Tensor) -> tf.Tensor:
    """L_cls per image: -y^T log softmax(logits) (Eq. 5, Algorithm 1 line 5)."""
    return tf.nn.softmax_cross_entropy_with_logits(one_hot(labels, logits), logits)


def margin(labels: tf.Tensor, logits: tf.Tensor) -> tf.Tensor:
    """Largest wrong logit minus the right one: positive exactly where the image is misclassified.

    The loss of Carlini & Wagner (2017). Unlike cross-entropy its gradient does not vanish on a
    classifier that is sure of itself, so an attack that climbs it sees through large logits.
    """
    target = one_hot(labels, logits)
    wrong = tf.reduce_max(tf.where(target > 0.5, logits.dtype.min, logits), axis=-1)
    return wrong - of_target(labels, logits)


def misclassified(labels: tf.Tensor, logits: tf.Tensor) -> tf.Tensor:
    """Which images [batch] count as broken by an attack.

    A lead of the wrong class within rounding does not count: other batch sizes round otherwise, and
    the image has to be misclassified again when it is classified from disk. Rounding is judged by
    the two logits that are compared and by the median of all, so that a class that is ruled out by
    a huge negative logit plays no part. Equal logits count if the class that is taken then, the
    first, is wrong.
    """
    target = one_hot(labels, logits)
    taken_for = tf.argmax(logits, axis=-1)
    right = tf.reduce_sum(target * logits, axis=-1)
    largest = tf.reduce_max(logits, axis=-1)
    lead, rounding = largest - right, _rounding(right, largest, logits)
    return (taken_for != tf.argmax(target, axis=-1)) & ((lead > rounding) | (lead == 0))


def reached(targets: tf.Tensor, logits: tf.Tensor) -> tf.Tensor:
    """Which images [batch] are taken for the class aimed at, by a lead beyond rounding.

    Rounding is judged as in `misclassified`.
    """
    lead, own = -margin(targets, logits), of_target(targets, logits)
    return lead > _rounding(own, own - lead, logits)


def _rounding(one: tf.Tensor, other: tf.Tensor, logits: tf.Tensor) -> tf.Tensor:
    """By how much two logits [batch] may differ between batch sizes."""
    half = logits.shape[-1] // 2 + 1
    median = tf.math.top_k(tf.abs(logits), half).values[:, -1]
    return 1e-6 * (tf.abs(one) + tf.abs(other) + median)


def difference_of_logits_ratio(labels: tf.Tensor, logits: tf.Tensor) -> tf.Tensor:
    """DLR per image: the margin over the distance of the largest logit to the third largest.

    Unlike cross-entropy it does not change with the scale of the logits (Croce & Hein, 2020,
    "Reliable evaluation", Eq. 6). Needs three classes.
    """
    top = tf.math.top_k(logits, 3).values
    return margin(labels, logits) / (top[:, 0] - top[:, 2] + 1e-12)


def targeted_margin(labels: tf.Tensor, logits: tf.Tensor, targets: tf.Tensor) -> tf.Tensor:
    """The logit of the class [batch] aimed at minus the right one, per image."""
    return of_target(targets, logits) - of_target(labels, logits)


def targeted_difference_of_logits_ratio(
    labels: tf.Tensor, logits: tf.Tensor, targets: tf.Tensor
) -> tf.Tensor:
    """Targeted DLR per image (Croce & Hein, 2020, Eq. 7). Needs four classes."""
    top = tf.math.top_k(logits, 4).values
    spread = top[:, 0] - (top[:, 2] + top[:, 3]) / 2
    return targeted_margin(labels, logits, targets) / (spread + 1e-12)


def adversarial_loss(real_logits: tf.Tensor, adapted_logits: tf.Tensor) -> tf.Tensor:
    """L_adv per pair: log f_disc(x) + log(1 - f_disc(J')) (Eq. 9, Algorithm 1 line 8).

    Args:
        real_logits: Discriminator logits [batch] of images; f_disc = sigmoid(logit).
        adapted_logits: Discriminator logits [batch] of adapted Jacobians.

    Returns:
        Values [batch], at most 0. The discriminator maximises their mean. A discriminator that
        cannot tell the two apart (logit 0) gives -log 4, the constant of Theorem 3.1.
    """
    return -tf.nn.softplus(-real_logits) - tf.nn.softplus(adapted_logits)


def generator_loss(
    real_logits: tf.Tensor | None, adapted_logits: tf.Tensor, gan_loss: str
) -> tf.Tensor:
    """What classifier and adaptor minimise, per image: L_adv as far as J' reaches it.

    Args:
        real_logits: Discriminator logits [batch] of images. J' reaches them only through batch
            normalisation over both; None where they were not computed.
        adapted_logits: Discriminator logits [batch] of adapted Jacobians.
        gan_loss: `"minimax"`: log(1 - f_disc(J')), as in Eq. 9. `"non_saturating"`:
            -log f_disc(J') (Goodfellow et al., 2014), whose gradient does not vanish while the
            discriminator is ahead.
    """
    if gan_loss == "non_saturating":
        return tf.nn.softplus(-adapted_logits)
    if real_logits is None:
        return -tf.nn.softplus(adapted_logits)
    return adversarial_loss(real_logits, adapted_logits)


def standardize(images: tf.Tensor) -> tf.Tensor:
    """Each image shifted to zero mean and scaled to unit L2 norm, as the authors' code does."""
    axes = list(range(1, images.shape.rank))
    centred = images - tf.reduce_mean(images, axis=axes, keepdims=True)
    return tf.math.l2_normalize(centred, axis=axes)


def of_each(
    loss: str | dict | Callable | keras.losses.Loss,
) -> Callable[[tf.Tensor, tf.Tensor], tf.Tensor]:
    """A Keras loss as a function of labels and logits to one value per image [batch].

    Args:
        loss: As `keras.Model.compile` takes it. Its reduction is left out.

    Raises:
        ValueError: A loss that Keras does not know, or of probabilities; when called, one without
            a value for each image, or labels that it does not take.
    """
    found = keras.losses.get(loss)
    if isinstance(found, keras.losses.Loss):
        function, of_logits = found.call, found.get_config().get("from_logits")
    else:
        function, parameters = found, inspect.signature(found).parameters
        of_logits = parameters["from_logits"].default if "from_logits" in parameters else None
    if of_logits is False:
        raise ValueError(
            "loss must be of logits, as the classifier returns them. Received one of "
            f"probabilities: {loss!r}. Give the class with from_logits=True, such as "
            "keras.losses.SparseCategoricalCrossentropy(from_logits=True)."
        )

    def each(labels: tf.Tensor, logits: tf.Tensor) -> tf.Tensor:
        try:
            if labels.shape.rank == 1:  # which Keras may broadcast if images are as many as classes
                other = logits.shape[-1] + 1
                function(tf.zeros([other], labels.dtype), tf.zeros([other, logits.shape[-1]]))
            values = tf.convert_to_tensor(function(labels, logits))
        except (ValueError, tf.errors.InvalidArgumentError) as error:
            raise ValueError(
                f"loss cannot be computed. Received labels {tuple(labels.shape)} and logits "
                f"{tuple(logits.shape)} for {loss!r}, which says: "
                f"{textwrap.shorten(str(error), 200)} Give the labels that it takes: integers "
                "for a sparse one, else one-hot rows."
            ) from None
        if values.shape.rank != 1:
            raise ValueError(
                "loss must give one value for each image. Received values of shape "
                f"{tuple(values.shape)} from {loss!r}."
            )
        return values

    return each


@keras.saving.register_keras_serializable("jarn_tf")
class CrossEntropy(keras.losses.Loss):
    """L_cls (Eq. 5) as a Keras loss: logits, and integer or one-hot labels alike."""

    def __init__(self, name: str = "cross_entropy", **kwargs):
        super().__init__(name=name, **kwargs)

    def call(self, y_true, y_pred):
        return cross_entropy(y_true, y_pred)
