"""Projected gradient descent (Eq. 4; Madry et al., 2018)."""

from __future__ import annotations

import math

import keras
import numpy as np
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
    stop_when_misclassified: bool = False,
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
        stop_when_misclassified: Whether an image is left alone at its first misclassified point,
            which is then returned. Faster, and all that counting accuracy needs; for attacks on
            another classifier the highest point is the stronger one.

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
    search = _Search(classifier, images, labels, epsilon, loss, stop_when_misclassified)
    for restart in range(restarts):
        points = images
        if random_start:
            points += tf.random.stateless_uniform(
                tf.shape(images), [seed, restart], -epsilon, epsilon
            )
        search.climb(points, steps, step_size)
    return tf.convert_to_tensor(search.best)


def default_step_size(epsilon: float, steps: int) -> float:
    """Step of `steps` steps that can cross the ball: 2.5 * epsilon / steps, at most epsilon / 4."""
    return min(2.5 * epsilon / steps, epsilon / 4)


class _Search:
    """The best points met so far, and the restarts that look for better ones."""

    def __init__(self, classifier, images, labels, epsilon, loss, stop):
        self.classifier = classifier
        self.labels = labels.numpy()
        self.bounds = [bound.numpy() for bound in linf_bounds(images, epsilon)]
        self.loss = loss
        self.stop = stop
        self.best = images.numpy().copy()
        self.highest = np.full(len(images), -np.inf, np.float32)
        self.fallen = np.zeros(len(images), bool)
        self.climb(images, 0, 0.0)

    def climb(self, points, steps, step_size):
        """One restart; where that is asked, images that have fallen are dropped on the way."""
        points = project_linf(points, self.bounds).numpy()
        step_size = tf.constant(step_size, tf.float32)
        left, done = np.flatnonzero(~self.fallen), 0
        while len(left):
            # A few steps at first, when most images fall.
            now = min(max(2, done), steps - done) if self.stop else steps
            rows = self._padded(left) if self.stop else left
            points[rows], self.best[rows], self.highest[rows], self.fallen[rows] = climb(
                self.classifier,
                points[rows],
                self.labels[rows],
                [bound[rows] for bound in self.bounds],
                self.best[rows],
                self.highest[rows],
                step_size,
                tf.constant(now),
                self.loss,
                self.stop,
            )
            done, left = done + now, left[~self.fallen[left]]
            if done == steps:
                return

    def _padded(self, rows):
        """Rows up to a multiple of 32, some of them twice: oneDNN keeps memory for each size."""
        return np.resize(rows, min(math.ceil(len(rows) / 32) * 32, len(self.labels)))


@tf.function(reduce_retracing=True)
def climb(classifier, points, labels, bounds, best, highest, step_size, steps, loss, stop):
    """The loop of Eq. 4, compiled.

    Returns:
        The last points, the best points met, their losses, and which images have fallen: those
        that met a misclassified point, where `stop` asks for it.
    """
    fallen = tf.zeros_like(highest, tf.bool)
    for _ in tf.range(steps):
        logits, values, direction = ascent_direction(classifier, points, labels, loss)
        best, highest, fallen = _compare(
            points, labels, logits, values, best, highest, fallen, stop
        )
        points = project_linf(points + step_size * direction, bounds)
    logits, values = _logits_and_loss(classifier, points, labels, loss)
    best, highest, fallen = _compare(points, labels, logits, values, best, highest, fallen, stop)
    return points, best, highest, fallen


def _compare(points, labels, logits, values, best, highest, fallen, stop):
    """Keeps the higher points; with `stop` the first misclassified one."""
    better = values > highest
    if stop:
        wrong = losses.margin(labels, logits) > 0
        better = ~fallen & (better | wrong)
        fallen = fallen | wrong
    best = tf.where(better[:, None, None, None], points, best)
    return best, tf.where(better, values, highest), fallen


@tf.function(reduce_retracing=True)
def ascent_direction(classifier, images, labels, loss):
    """Logits, losses [batch] in inference mode, and the sign of the losses' input gradient."""
    with tf.GradientTape() as tape:
        tape.watch(images)
        logits, values = _logits_and_loss(classifier, images, labels, loss)
        total = tf.reduce_sum(values)
    return logits, values, tf.sign(tape.gradient(total, images))


def _logits_and_loss(classifier, images, labels, loss):
    logits = classifier(images, training=False)
    function = losses.margin if loss == "margin" else losses.cross_entropy
    return logits, function(labels, logits)
