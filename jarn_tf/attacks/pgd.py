"""Projected gradient descent (Eq. 4; Madry et al., 2018)."""

from __future__ import annotations

import functools
from typing import NamedTuple

import keras
import numpy as np
import tensorflow as tf

from jarn_tf import arguments, losses
from jarn_tf.attacks.ascent import loss_and_gradient
from jarn_tf.attacks.ball import Ball, balls
from jarn_tf.attacks.batches import Images, Labels, in_batches
from jarn_tf.attacks.survivors import attack_survivors
from jarn_tf.attacks.targets import classes_to_reach
from jarn_tf.randomness import uniform_rows


def pgd(
    classifier: keras.Model,
    images: Images,
    labels: Labels = None,
    *,
    epsilon: float,
    norm: str = "linf",
    step_size: float | None = None,
    steps: int = 40,
    restarts: int = 1,
    random_start: bool = True,
    seed: int = 0,
    loss: str = "cross_entropy",
    targets: np.ndarray | tf.Tensor | None = None,
    stop_when_misclassified: bool = False,
    batch_size: int = 128,
    progress: bool = False,
) -> np.ndarray:
    """Climbs a loss inside the ball; for each image the highest point met is returned.

    Eq. 4 prints a minus sign; an untargeted attack ascends the loss. The clean image is among the
    points compared, so the loss is never lower than there.

    Args:
        classifier: Keras model from images in [0, 1] to logits; called with `training=False`.
        images: Images [n, height, width, channels], floating point in [0, 1] or `uint8`; or a
            `tf.data.Dataset` of batches of images and labels. See `attacks.batches`.
        labels: Integer labels [n] or [n, 1], or one-hot rows; None with a dataset.
        epsilon: Radius, pixels being in [0, 1].
        norm: What it is measured in: `"linf"` or `"l2"`.
        step_size: Step eta of Eq. 4; the paper gives none. Unless told 2.5 * epsilon / steps
            (Madry et al.), at most epsilon / 4 (the authors' released code: 2/255 at 8/255).
        steps: Gradient steps of each restart.
        restarts: Independent runs; the highest point over all counts.
        random_start: Whether runs start at a uniform point of the ball, or at the image.
        seed: Seed of the random starts.
        loss: `"cross_entropy"`, or `"margin"`, which sees through saturated logits.
        targets: Integer classes [n] to be reached: the loss of the target is descended, and its
            lowest point is returned. None: any wrong class. Not with a dataset.
        stop_when_misclassified: Whether an image is left alone at its first misclassified point,
            with targets at the first point taken for its target,
            which is then returned. Faster, and all that counting accuracy needs; for attacks on
            another classifier the highest point is the stronger one.
        batch_size: Images attacked at once. Memory depends on it, results but by rounding.
        progress: Whether to draw a progress bar with a time estimate on a terminal.

    Returns:
        Adversarial images, float32, within epsilon of `images` and within [0, 1].

    Raises:
        ValueError: Bad images, labels, targets, epsilon, steps, restarts, loss or batch size.
    """
    arguments.radius(epsilon, norm=norm)
    steps = arguments.whole("steps", steps)
    restarts = arguments.whole("restarts", restarts)
    arguments.truth("random_start", random_start)
    seed = arguments.seed(seed)
    arguments.one_of("loss", loss, arguments.ATTACK_LOSSES)
    arguments.truth("stop_when_misclassified", stop_when_misclassified)
    if step_size is None:
        step_size = default_step_size(epsilon, steps)
    else:
        arguments.positive("step_size", step_size)
    if targets is not None:
        targets = classes_to_reach(classifier, images, targets)
    climb = functools.partial(
        _climb,
        classifier,
        tf.constant(step_size, tf.float32),
        loss,
        targets is not None,
        stop_when_misclassified,
    )

    def attack(images, labels, first):
        if targets is not None:
            labels = tf.constant(targets[first : first + len(labels)])
        state = _State(
            points=images.numpy().copy(),
            direction=np.zeros(images.shape, np.float32),
            best=images.numpy().copy(),
            highest=np.full(len(images), -np.inf, np.float32),
            fallen=np.zeros(len(images), bool),
            labels=labels.numpy(),
            ball=balls(norm, images, epsilon),
        )
        attack_survivors(climb, state, 1)  # the images themselves
        for restart in range(restarts):
            start = images
            if random_start:
                noise = uniform_rows(first, images.shape, (seed, restart), -epsilon, epsilon)
                start += state.ball.fill(noise, epsilon)
            state.points[:] = state.ball.project(start)
            state.direction[:] = 0.0
            attack_survivors(climb, state, 1 + steps)
        return state.best

    return in_batches("pgd", attack, classifier, images, labels, batch_size, progress)


def default_step_size(epsilon: float, steps: int) -> float:
    """Step of `steps` steps that can cross the ball: 2.5 * epsilon / steps, at most epsilon / 4."""
    return min(2.5 * epsilon / steps, epsilon / 4)


class _State(NamedTuple):
    """One row an image: where the search is, where it goes next, the best point met."""

    points: tf.Tensor
    direction: tf.Tensor  # 0 at the start, so that the first step looks at the start itself
    best: tf.Tensor
    highest: tf.Tensor  # the loss at `best`
    fallen: tf.Tensor  # met a misclassified point, where the search stops at one
    labels: tf.Tensor  # to leave, or to reach
    ball: Ball


@tf.function(reduce_retracing=True)
def _climb(classifier, step_size, loss, targeted, stop, state, first, steps):
    """The loop of Eq. 4, compiled."""
    del first  # every step is the same
    for _ in tf.range(steps):
        points = state.ball.project(state.points + step_size * state.direction)
        logits, values, gradient = loss_and_gradient(classifier, points, state.labels, loss)
        if targeted:
            values, gradient = -values, -gradient
        better = values > state.highest
        fallen = state.fallen
        if stop:
            success = losses.reached if targeted else losses.misclassified
            there = success(state.labels, logits)
            better = ~fallen & (better | there)
            fallen = fallen | there
        state = state._replace(
            points=points,
            direction=state.ball.steepest(gradient),
            best=tf.where(better[:, None, None, None], points, state.best),
            highest=tf.where(better, values, state.highest),
            fallen=fallen,
        )
    return state
