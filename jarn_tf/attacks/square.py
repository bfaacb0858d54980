"""The Square attack, a random search without gradients (Andriushchenko et al., 2020)."""

from __future__ import annotations

import functools
from typing import NamedTuple

import keras
import numpy as np
import tensorflow as tf

from jarn_tf import arguments, losses
from jarn_tf.attacks.ascent import logits_of
from jarn_tf.attacks.ball import Ball, balls
from jarn_tf.attacks.batches import Images, Labels, in_batches
from jarn_tf.attacks.square_l2 import tiles, with_window
from jarn_tf.attacks.survivors import attack_survivors
from jarn_tf.randomness import uniform_rows

_FIRST_SHARE = 0.8  # p: share of the image that the first square covers
#: Queries after which the share of the square is halved. They are those of 10,000, which AutoAttack
#: does not scale to its 5,000.
_HALVINGS = (10, 50, 200, 500, 1000, 2000, 4000, 6000, 8000)


def square(
    classifier: keras.Model,
    images: Images,
    labels: Labels = None,
    *,
    epsilon: float,
    norm: str = "linf",
    queries: int = 5000,
    restarts: int = 1,
    seed: int = 0,
    batch_size: int = 128,
    progress: bool = False,
) -> np.ndarray:
    """Changes random squares of the image within the ball and keeps what raises the margin.

    In L-infinity it starts at random vertical stripes and moves squares to the faces of the ball.
    In L2 it moves the length of the step from one square into another. It sees nothing of the
    classifier but its logits, so no property of the gradients can mislead it. An image is left
    alone at its first misclassified point.

    The attack of AutoAttack has the default options.

    Args:
        classifier: Keras model from images in [0, 1] to logits; called with `training=False`.
        images: Images [n, height, width, channels], floating point in [0, 1] or `uint8`; or a
            `tf.data.Dataset` of batches of images and labels. See `attacks.batches`.
        labels: Integer labels [n] or [n, 1], or one-hot rows; None with a dataset.
        epsilon: Radius, pixels being in [0, 1].
        norm: What it is measured in: `"linf"` or `"l2"`.
        queries: Points tried in each run; the squares shrink with their number.
        restarts: Independent runs.
        seed: Seed of stripes and squares.
        batch_size: Images attacked at once. Memory depends on it; and the squares that are tried
            on an image, as they depend on which images of its batch have fallen.
        progress: Whether to draw a progress bar with a time estimate on a terminal.

    Returns:
        float32 images within epsilon of `images` and within [0, 1]: a misclassified point; where
        none was found, the image itself.

    Raises:
        ValueError: Bad images, labels, logits or options.

    Reference: Andriushchenko et al., "Square Attack", ECCV 2020, Algorithms 1, 2 and 3; p = 0.8
    and the schedule as in AutoAttack (Croce & Hein, 2020).
    """
    arguments.radius(epsilon, norm=norm)
    queries = arguments.whole("queries", queries)
    restarts = arguments.whole("restarts", restarts)
    seed = arguments.seed(seed)
    start, propose = _SEARCHES[norm]

    def attack(images, labels, first):
        n, height, width, _ = images.shape
        state = _State(
            points=images.numpy().copy(),
            highest=np.zeros(n, np.float32),
            fallen=np.zeros(n, bool),
            labels=labels.numpy(),
            ball=balls(norm, images, epsilon),
        )
        sides = tf.constant(_sides(queries, height, width))
        for restart in range(restarts):
            seeds = tf.random.experimental.stateless_split([seed, restart], 2)
            going = ~state.fallen
            state.points[going] = start(images, state.ball, seeds[0], first).numpy()[going]
            state.highest[:] = -np.inf
            search = functools.partial(_search, classifier, propose, sides, seeds[1])
            attack_survivors(search, state, queries)
        return np.where(state.fallen[:, None, None, None], state.points, images)

    return in_batches("square", attack, classifier, images, labels, batch_size, progress)


class _State(NamedTuple):
    """One row an image."""

    points: tf.Tensor  # the best so far; the first misclassified one stays
    highest: tf.Tensor  # the margin there
    fallen: tf.Tensor
    labels: tf.Tensor
    ball: Ball


@tf.function(reduce_retracing=True)
def _search(classifier, propose, sides, seed, state, first, queries):
    """Algorithm 1, compiled."""
    for query in tf.range(first, first + queries):
        candidates = propose(state, sides[query], seed + [0, tf.cast(query, seed.dtype)])
        logits = logits_of(classifier, candidates)
        margins = losses.margin(state.labels, logits)
        found = losses.misclassified(state.labels, logits)
        better = ~state.fallen & (found | (margins > state.highest))
        state = state._replace(
            points=tf.where(better[:, None, None, None], candidates, state.points),
            highest=tf.where(better, margins, state.highest),
            fallen=state.fallen | found,
        )
    return state


def _stripes(images, ball, seed, first):
    """The start: each column of each channel at one of the faces of the ball."""
    n, _, width, channels = images.shape
    stripes = uniform_rows(first, (n, 1, width, channels), seed, -1.0, 1.0)
    return tf.where(stripes > 0, ball.upper, ball.lower)


def _with_square(state, side, seed):
    """Each image with one square, at a random place, moved to a face of the ball."""
    n, height, width, channels = tf.unstack(tf.shape(state.points))
    drawn = tf.random.stateless_uniform([n, 2 + channels], seed)
    row, column = (
        tf.cast(drawn[:, axis, None] * tf.cast(size - side + 1, tf.float32), tf.int32)
        for axis, size in ((0, height), (1, width))
    )
    rows, columns = tf.range(height)[None], tf.range(width)[None]
    in_rows, in_columns = (
        tf.cast((lines >= first) & (lines < first + side), tf.float32)
        for lines, first in ((rows, row), (columns, column))
    )
    way = tf.where(drawn[:, None, None, 2:] < 0.5, -1.0, 1.0)
    moves = in_rows[:, :, None, None] * (in_columns[:, None, :, None] * way)
    return state.ball.project(state.points + moves)


#: Name of a norm to the start, and to what is tried next.
_SEARCHES = {"linf": (_stripes, _with_square), "l2": (tiles, with_window)}


def _sides(queries: int, height: int, width: int) -> np.ndarray:
    """Side of the square of each query in pixels; 0 at the first, which looks at the start."""
    share = np.full(queries, _FIRST_SHARE)
    for halving in _HALVINGS:
        share[halving + 1 :] /= 2
    sides = np.maximum(np.round(np.sqrt(share * height * width)), 1)
    return np.minimum(np.where(np.arange(queries) > 0, sides, 0), min(height, width)).astype(
        np.int32
    )
