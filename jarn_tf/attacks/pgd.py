"""Projected gradient descent (Eq. 4; Madry et al., 2018)."""

from __future__ import annotations

import keras
import tensorflow as tf

from jarn_tf import checks, config, losses
from jarn_tf.attacks.linf import linf_bounds, project_linf


def pgd(
    classifier: keras.Model,
    images: tf.Tensor,
    labels: tf.Tensor,
    *,
    epsilon: float,
    step_size: float | None = None,
    steps: int = 40,
    restarts: int = 1,
    random_start: bool = True,
    seed: int = 0,
    loss: str = "cross_entropy",
) -> tf.Tensor:
    """Climbs a loss inside the ball; for each image the highest point met is returned.

    Eq. 4 prints a minus sign; an untargeted attack ascends the loss. The clean image is among the
    points compared, so the loss is never lower than there.

    Args:
        classifier: Keras model from images in [0, 1] to logits; called with `training=False`.
        images: Float images [batch, height, width, channels] in [0, 1].
        labels: Integer labels [batch] or one-hot rows.
        epsilon: L-infinity radius in pixel units of [0, 1].
        step_size: Step eta of Eq. 4; the paper gives none. Unless told 2.5 * epsilon / steps
            (Madry et al.), at most epsilon / 4 (the authors' released code: 2/255 at 8/255).
        steps: Gradient steps of each restart.
        restarts: Independent runs; the highest point over all counts.
        random_start: Whether runs start at a uniform point of the ball, or at the image.
        seed: Seed of the random starts.
        loss: `"cross_entropy"`, or `"margin"`, which sees through saturated logits.

    Returns:
        Adversarial images, float32, within epsilon of `images` and within [0, 1].

    Raises:
        ValueError: Bad images, labels, epsilon, steps, restarts or loss.
    """
    images, labels = checks.batch(classifier, images, labels)
    config.radius(epsilon)
    config.whole("steps", steps)
    config.whole("restarts", restarts)
    config.one_of("loss", loss, config.ATTACK_LOSSES)
    if step_size is None:
        step_size = default_step_size(epsilon, steps)
    else:
        config.positive("step_size", step_size)
    bounds = linf_bounds(images, epsilon)
    best, highest = images, attack_loss(classifier, images, labels, loss)
    for restart in range(restarts):
        start = images
        if random_start:
            noise = tf.random.stateless_uniform(
                tf.shape(images), [seed, restart], -epsilon, epsilon
            )
            start = project_linf(images + noise, bounds)
        best, highest = climb(
            classifier, labels, start, bounds, best, highest,
            tf.constant(step_size, tf.float32), tf.constant(steps), loss,
        )  # fmt: skip
    return best


def default_step_size(epsilon: float, steps: int) -> float:
    """Step of `steps` steps that can cross the ball: 2.5 * epsilon / steps, at most epsilon / 4."""
    return min(2.5 * epsilon / steps, epsilon / 4)


@tf.function(reduce_retracing=True)
def climb(classifier, labels, start, bounds, best, highest, step_size, steps, loss):
    """The loop of Eq. 4, compiled; updates the best images and their losses met so far."""
    images = start
    for _ in tf.range(steps):
        values, direction = ascent_direction(classifier, images, labels, loss)
        best, highest = _higher(images, values, best, highest)
        images = project_linf(images + step_size * direction, bounds)
    values = attack_loss(classifier, images, labels, loss)
    return _higher(images, values, best, highest)


def _higher(images, values, best, highest):
    better = values > highest
    best = tf.where(better[:, None, None, None], images, best)
    return best, tf.where(better, values, highest)


@tf.function(reduce_retracing=True)
def attack_loss(classifier, images, labels, loss):
    """Loss per image [batch] that an attack climbs, of the classifier in inference mode."""
    logits = classifier(images, training=False)
    function = losses.margin if loss == "margin" else losses.cross_entropy
    return function(labels, logits)


@tf.function(reduce_retracing=True)
def ascent_direction(classifier, images, labels, loss):
    """Losses [batch] and the sign of their input gradient."""
    with tf.GradientTape() as tape:
        tape.watch(images)
        values = attack_loss(classifier, images, labels, loss)
        total = tf.reduce_sum(values)
    return values, tf.sign(tape.gradient(total, images))
