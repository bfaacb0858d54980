"""APGD, projected gradient descent that chooses its own step size (Croce & Hein, 2020)."""

from __future__ import annotations

import functools
from typing import NamedTuple

import keras
import numpy as np
import tensorflow as tf

from jarn_tf import arguments, checks, losses
from jarn_tf.attacks.ascent import loss_and_gradient
from jarn_tf.attacks.ball import Ball, balls, random_point
from jarn_tf.attacks.batches import Images, Labels, in_batches
from jarn_tf.attacks.survivors import attack_survivors
from jarn_tf.attacks.targets import ranked_wrong_classes

_MOMENTUM = 0.75  # weight of the new step against the last one
_TOO_FEW = 0.75  # rho: share of steps that have to raise the loss


def apgd(
    classifier: keras.Model,
    images: Images,
    labels: Labels = None,
    *,
    epsilon: float,
    norm: str = "linf",
    steps: int = 100,
    restarts: int = 1,
    loss: str = "cross_entropy",
    targets: int = 0,
    eot_samples: int = 1,
    seed: int = 0,
    batch_size: int = 128,
    progress: bool = False,
) -> np.ndarray:
    """Climbs a loss inside the ball with momentum, from steps of 2 epsilon to ever smaller ones.

    At checkpoints (at 22 % of the steps, then at ever shorter intervals) the step of an image is
    halved and its search goes on from its highest point, if less than 75 % of the steps since the
    last checkpoint raised the loss, or if neither the step nor the highest loss has changed since.
    An image is left alone at its first misclassified point.

    The attacks of AutoAttack are `loss="cross_entropy"` (APGD-CE), and `loss="dlr"` with
    `targets=9` (APGD-T), both of 100 steps and one start.

    Args:
        classifier: Keras model from images in [0, 1] to logits; called with `training=False`.
        images: Images [n, height, width, channels], floating point in [0, 1] or `uint8`; or a
            `tf.data.Dataset` of batches of images and labels. See `attacks.batches`.
        labels: Integer labels [n] or [n, 1], or one-hot rows; None with a dataset.
        epsilon: Radius, pixels being in [0, 1].
        norm: What it is measured in: `"linf"` or `"l2"`.
        steps: Gradient steps of each start.
        restarts: Random starts, of each target if there are any.
        loss: `"cross_entropy"`, `"dlr"`, the difference of logits ratio, or `"margin"`. DLR needs
            three classes, its targeted form four; with fewer the margin is climbed instead.
        targets: 0, or the number of wrong classes that are aimed at in turn, the likeliest first;
            at most all of them. Needs `loss="dlr"` or `"margin"`.
        eot_samples: Passes that each gradient and loss is the mean of (expectation over
            transformation, Athalye et al., 2018), for classifiers that answer at random. As in the
            released code a point is misclassified if the last of them says so.
        seed: Seed of the random starts.
        batch_size: Images attacked at once. Memory depends on it, results but by rounding.
        progress: Whether to draw a progress bar with a time estimate on a terminal.

    Returns:
        float32 images within epsilon of `images` and within [0, 1]: the first misclassified point
        met; where there was none, the image itself.

    Raises:
        ValueError: Bad images, labels, logits or options.

    Reference: Croce & Hein, "Reliable evaluation of adversarial robustness with an ensemble of
    diverse parameter-free attacks", ICML 2020, Algorithm 1.
    """
    arguments.radius(epsilon, norm=norm)
    steps = arguments.whole("steps", steps)
    restarts = arguments.whole("restarts", restarts)
    seed = arguments.seed(seed)
    targets = arguments.whole("targets", targets, least=0)
    eot_samples = arguments.whole("eot_samples", eot_samples)
    arguments.one_of("loss", loss, ("dlr", "margin") if targets else arguments.APGD_LOSSES)
    lengths = tf.constant(_interval_lengths(steps))

    def attack(images, labels, first):
        climbed = apgd_loss(loss, targets, checks.classes(classifier))
        climb = functools.partial(_climb, classifier, lengths, climbed, targets > 0, eot_samples)
        aims = [np.zeros(len(images), np.int32)]
        if targets:
            aims = ranked_wrong_classes(classifier, images, labels, targets)
        state = _State.at(images.numpy(), labels.numpy(), balls(norm, images, epsilon))
        for number, aim in enumerate(aims):
            state.aim[:] = aim
            for restart in range(restarts):
                drawn = (seed, number * restarts + restart)
                start = random_point(state.ball, images, epsilon, drawn, first)
                state.start(start, 2 * epsilon)
                attack_survivors(climb, state, 1 + steps)
        return np.where(state.fallen[:, None, None, None], state.best, images)

    return in_batches("apgd", attack, classifier, images, labels, batch_size, progress)


def apgd_loss(loss: str, targets: int, classes: int) -> str:
    """The loss that `apgd` climbs: `loss`, but the margin where DLR has too few classes."""
    return "margin" if loss == "dlr" and classes < (4 if targets else 3) else loss


class _State(NamedTuple):
    """One row an image; z, x_max, f_max and eta of Algorithm 1 by their meaning."""

    points: tf.Tensor
    previous: tf.Tensor
    direction: tf.Tensor  # 0 at the start, so that the first step looks at the start itself
    value: tf.Tensor  # the loss at `points`
    best: tf.Tensor  # of the highest loss; the first misclassified point stays
    best_direction: tf.Tensor
    highest: tf.Tensor  # the loss at `best`
    step_size: tf.Tensor
    raised: tf.Tensor  # steps since the last checkpoint that raised the loss
    checked: tf.Tensor  # `highest` at the last checkpoint
    halved: tf.Tensor  # whether the last checkpoint halved the step
    fallen: tf.Tensor
    labels: tf.Tensor
    aim: tf.Tensor  # the class aimed at
    ball: Ball

    @classmethod
    def at(cls, images, labels, ball):
        zeros = np.zeros(len(images), np.float32)
        pixels = {
            name: images.copy()
            for name in ("points", "previous", "direction", "best", "best_direction")
        }
        numbers = {
            name: zeros.copy() for name in ("value", "highest", "step_size", "raised", "checked")
        }
        return cls(
            **pixels,
            **numbers,
            halved=np.zeros(len(images), bool),
            fallen=np.zeros(len(images), bool),
            labels=labels,
            aim=np.zeros(len(images), np.int32),
            ball=ball,
        )

    def start(self, points, step_size):
        self.points[:] = self.previous[:] = points
        self.direction[:] = 0.0
        self.value[:] = np.inf
        self.highest[:] = -np.inf
        self.step_size[:] = step_size
        self.raised[:] = 0
        self.halved[:] = True


@tf.function(reduce_retracing=True)
def _climb(classifier, lengths, loss, targeted, samples, state, first, steps):
    """Algorithm 1, compiled."""
    for step in tf.range(first, first + steps):
        size = state.step_size[:, None, None, None]
        ahead = state.ball.project(state.points + size * state.direction)
        momentum = tf.where(step > 1, _MOMENTUM, 1.0)
        points = state.ball.project(
            state.points
            + momentum * (ahead - state.points)
            + (1 - momentum) * (state.points - state.previous)
        )
        aim = state.aim if targeted else None
        logits, values, gradient = loss_and_gradient(
            classifier, points, state.labels, loss, aim, samples
        )
        direction = state.ball.steepest(gradient)

        found = losses.misclassified(state.labels, logits)
        better = ~state.fallen & (found | (values > state.highest))
        state = state._replace(
            points=points,
            previous=state.points,
            direction=direction,
            value=values,
            best=tf.where(better[:, None, None, None], points, state.best),
            best_direction=tf.where(better[:, None, None, None], direction, state.best_direction),
            highest=tf.where(better, values, state.highest),
            raised=state.raised + tf.cast(values > state.value, tf.float32),
            fallen=state.fallen | found,
        )
        if lengths[step] > 0:
            state = _checkpoint(state, tf.cast(lengths[step], tf.float32))
    return state


def _checkpoint(state, length):
    """Halves the step and goes back to the best point where one of the two conditions holds."""
    too_few = state.raised <= _TOO_FEW * length
    stuck = ~state.halved & (state.checked >= state.highest)
    halve = too_few | stuck
    back = halve[:, None, None, None]
    return state._replace(
        points=tf.where(back, state.best, state.points),
        direction=tf.where(back, state.best_direction, state.direction),
        step_size=tf.where(halve, state.step_size / 2, state.step_size),
        raised=tf.zeros_like(state.raised),
        checked=state.highest,
        halved=halve,
    )


def _interval_lengths(steps: int) -> np.ndarray:
    """For each step, 0 to `steps`, the steps since the last checkpoint if it ends with one, else 0.

    The intervals: 22 % of the steps, then each 3 % shorter, at least 6 % (Section 3).
    """
    lengths = np.zeros(1 + steps, np.int32)
    length, shortest, decrease = (max(int(share * steps), 1) for share in (0.22, 0.06, 0.03))
    end = length
    while end <= steps:
        lengths[end] = length
        length = max(length - decrease, shortest)
        end += length
    return lengths
