"""FAB, the fast adaptive boundary attack, untargeted and targeted (Croce & Hein, 2020)."""

from __future__ import annotations

import functools
from typing import NamedTuple

import keras
import numpy as np
import tensorflow as tf

from jarn_tf import arguments, checks, losses
from jarn_tf.attacks.ascent import logits_of
from jarn_tf.attacks.ball import Ball, balls, random_point
from jarn_tf.attacks.batches import Images, Labels, in_batches
from jarn_tf.attacks.survivors import attack_survivors
from jarn_tf.attacks.targets import ranked_wrong_classes
from jarn_tf.precision import input_gradient

_MOST_TOWARD_IMAGE = 0.1  # alpha_max: largest weight of the image's own projection
_OVERSHOOT = 1.05  # eta
_BACKWARD = 0.9  # beta: how far a step back from a misclassified point leaves it


def fab(
    classifier: keras.Model,
    images: Images,
    labels: Labels = None,
    *,
    epsilon: float,
    norm: str = "linf",
    steps: int = 100,
    restarts: int = 1,
    targets: int = 9,
    seed: int = 0,
    batch_size: int = 128,
    progress: bool = False,
) -> np.ndarray:
    """Looks for the nearest misclassified point at any distance and keeps those in the ball.

    Each step moves to the boundary between the right class and another one, as if the logits were
    linear, and a little toward the image; a misclassified point outside the ball is taken
    back toward the image. It climbs no loss, so neither scale nor saturation of the logits
    matters. An image is left alone at its first misclassified point inside the ball; FAB by itself
    would go on to nearer ones.

    The attack of AutoAttack, FAB-T, has the default options.

    Args:
        classifier: Keras model from images in [0, 1] to logits; called with `training=False`.
        images: Images [n, height, width, channels], floating point in [0, 1] or `uint8`; or a
            `tf.data.Dataset` of batches of images and labels. See `attacks.batches`.
        labels: Integer labels [n] or [n, 1], or one-hot rows; None with a dataset.
        epsilon: Radius, pixels being in [0, 1].
        norm: What it is measured in: `"linf"` or `"l2"`.
        steps: Steps of each start.
        restarts: Starts for each target: the first at the image, the others at random points
            within epsilon / 2.
        targets: Number of wrong classes that are aimed at in turn, the likeliest first; at most
            all of them. 0: each step takes the class whose boundary is nearest, which costs a
            gradient for every class.
        seed: Seed of the random starts.
        batch_size: Images attacked at once. Memory depends on it, results but by rounding.
        progress: Whether to draw a progress bar with a time estimate on a terminal.

    Returns:
        float32 images within epsilon of `images` and within [0, 1]: a misclassified point; where
        none was found, the image itself.

    Raises:
        ValueError: Bad images, labels, logits or options.

    Reference: Croce & Hein, "Minimally distorted adversarial examples with a fast adaptive
    boundary attack", ICML 2020, Algorithm 1; targeted as in their "Reliable evaluation", 2020.
    """
    arguments.radius(epsilon, norm=norm)
    steps = arguments.whole("steps", steps)
    restarts = arguments.whole("restarts", restarts)
    seed = arguments.seed(seed)
    targets = arguments.whole("targets", targets, least=0)
    search = functools.partial(_search, classifier, targets > 0)

    def attack(images, labels, first):
        state = _State(
            points=images.numpy().copy(),
            adversarial=images.numpy().copy(),
            fallen=np.zeros(len(images), bool),
            images=images.numpy(),
            labels=labels.numpy(),
            aim=np.zeros(len(images), np.int32),
            ball=balls(norm, images, epsilon),
        )
        aims = [np.zeros(len(images), np.int32)]
        if targets:
            aims = ranked_wrong_classes(classifier, images, labels, targets)
        for number, aim in enumerate(aims):
            state.aim[:] = aim
            for restart in range(restarts):
                start = images
                if restart:
                    drawn = (seed, number * restarts + restart)
                    start = random_point(state.ball, images, epsilon / 2, drawn, first)
                state.points[:] = start
                attack_survivors(search, state, steps)
        return state.adversarial

    return in_batches("fab", attack, classifier, images, labels, batch_size, progress)


class _State(NamedTuple):
    """One row an image."""

    points: tf.Tensor
    adversarial: tf.Tensor  # a misclassified point in the ball, the image until then
    fallen: tf.Tensor
    images: tf.Tensor
    labels: tf.Tensor
    aim: tf.Tensor  # the class aimed at
    ball: Ball


@tf.function(reduce_retracing=True)
def _search(classifier, targeted, state, first, steps):
    """Algorithm 1, compiled."""
    del first  # every step is the same
    images = state.images
    for _ in tf.range(steps):
        points = state.points
        if targeted:
            lead, normal = _boundary(classifier, points, state.labels, state.aim)
        else:
            lead, normal = _nearest_boundary(classifier, points, state.labels, state.ball)
        # The hyperplane where the linearised logits are equal: normal * x = offset.
        offset = tf.reduce_sum(normal * points, axis=(1, 2, 3)) - lead
        direction = state.ball.steepest(normal)
        from_point = project_on_hyperplane(points, normal, offset, direction)
        from_image = project_on_hyperplane(images, normal, offset, direction)
        here, there = (tf.maximum(state.ball.norm(step), 1e-8) for step in (from_point, from_image))
        weight = tf.minimum(here / (here + there), _MOST_TOWARD_IMAGE)
        points = (1 - weight) * (points + _OVERSHOOT * from_point) + weight * (
            images + _OVERSHOOT * from_image
        )
        points = tf.clip_by_value(points, 0.0, 1.0)

        wrong = losses.misclassified(state.labels, logits_of(classifier, points))
        found = wrong & state.ball.contains(points) & ~state.fallen
        nearer = images + _BACKWARD * (points - images)
        state = state._replace(
            points=tf.where(wrong[:, None, None, None], nearer, points),
            adversarial=tf.where(found[:, None, None, None], points, state.adversarial),
            fallen=state.fallen | found,
        )
    return state


def _boundary(classifier, points, labels, aim):
    """The lead [batch] of the class aimed at over the right one, and its gradient."""
    with tf.GradientTape() as tape:
        tape.watch(points)
        lead = losses.targeted_margin(labels, logits_of(classifier, points), aim)
        total = tf.reduce_sum(lead)
    return lead, input_gradient(tape, total, points, classifier)


def _nearest_boundary(classifier, points, labels, ball):
    """What `_boundary` gives of the class whose boundary is nearest, as if logits were linear."""
    nearest = tf.fill(tf.shape(labels), np.float32(np.inf))
    lead, normal = tf.zeros_like(nearest), tf.zeros_like(points)
    for aim in tf.range(checks.classes(classifier)):
        of_aim, normal_of_aim = _boundary(
            classifier, points, labels, tf.fill(tf.shape(labels), aim)
        )
        # The dual norm: what a step of norm 1 changes at most.
        slope = tf.reduce_sum(normal_of_aim * ball.steepest(normal_of_aim), axis=(1, 2, 3))
        distance = tf.where(labels == aim, np.inf, tf.abs(of_aim) / (slope + 1e-12))
        nearer = distance < nearest
        nearest = tf.where(nearer, distance, nearest)
        lead = tf.where(nearer, of_aim, lead)
        normal = tf.where(nearer[:, None, None, None], normal_of_aim, normal)
    return lead, normal


def project_on_hyperplane(
    points: tf.Tensor, normal: tf.Tensor, offset: tf.Tensor, direction: tf.Tensor
) -> tf.Tensor:
    """The smallest steps, in some norm, from points in [0, 1] onto a hyperplane within [0, 1].

    They go along `direction`, against the deviation normal * x - offset, but stop each pixel where
    [0, 1] does. The length of the way is the smallest that makes up for the deviation. What a
    length makes up for is concave and piecewise linear in it, so that Newton's method from 0 meets
    the solution from below in finitely many steps.

    Args:
        points: Images [batch, height, width, channels] in [0, 1].
        normal: Normal vectors, of that shape.
        offset: The hyperplanes are normal * x = offset, [batch].
        direction: `Ball.steepest` of the normal vectors, of the norm that is meant.

    Returns:
        Steps of that shape. Where the hyperplane does not meet [0, 1], the steps to the nearest
        corner.
    """
    axes = (1, 2, 3)
    deviation = tf.reduce_sum(normal * points, axis=axes, keepdims=True)
    deviation -= offset[:, None, None, None]
    toward = -tf.sign(deviation) * tf.sign(normal)
    room = tf.where(toward > 0, 1 - points, points)
    rate, pace = tf.abs(normal), tf.abs(direction)
    # Beyond the largest room nothing is gained; rounding must not let the search run on.
    furthest = tf.where(toward != 0, tf.math.divide_no_nan(room, pace), 0.0)
    most = tf.minimum(tf.reduce_max(furthest, axis=axes, keepdims=True), 1e12)
    length, going = tf.zeros_like(deviation), tf.constant(True)
    while going:
        free = tf.where(room > length * pace, rate * pace, 0.0)
        missing = tf.abs(deviation) - tf.reduce_sum(
            rate * tf.minimum(room, length * pace), axis=axes, keepdims=True
        )
        slope = tf.reduce_sum(free, axis=axes, keepdims=True)
        next_length = tf.where(slope > 0, length + tf.maximum(missing, 0.0) / slope, most)
        next_length = tf.where(missing > 0, tf.minimum(next_length, most), length)
        going = tf.reduce_any(next_length > length * (1 + 1e-6))
        length = next_length
    return toward * tf.minimum(room, length * pace)
