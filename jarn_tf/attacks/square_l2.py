"""What the Square attack tries in L2: windows that the length of a step is moved into."""

from __future__ import annotations

from typing import Any

import tensorflow as tf

from jarn_tf.attacks.l2 import L2Ball
from jarn_tf.randomness import uniform_rows

_TILES = 5  # windows along each side of the start
_SMALLEST = 3  # side of a window in pixels


def tiles(images: tf.Tensor, ball: L2Ball, seed: tf.Tensor, first: int) -> tf.Tensor:
    """The start: a grid of 5 by 5 windows, each with a random sign in each channel.

    Args:
        images: Images [n, height, width, channels] in [0, 1].
        ball: The balls around them.
        seed: Seed of the signs.
        first: Index of the first image among all.
    """
    n, height, width, channels = images.shape
    side = max(min(height, width) // _TILES, 1)
    down, across = min(_TILES, height), min(_TILES, width)
    signs = tf.sign(uniform_rows(first, (n, down, across, channels), seed, -1.0, 1.0))
    steps = tf.repeat(tf.repeat(signs, side, axis=1), side, axis=2)
    steps *= tf.tile(_window(tf.constant(side)), [down, across])[None, :, :, None]
    top, left = (height - side * down) // 2, (width - side * across) // 2
    steps = tf.image.pad_to_bounding_box(steps, top, left, height, width)
    return _to_surface(images, ball, steps)


def with_window(state: Any, side: tf.Tensor, seed: tf.Tensor) -> tf.Tensor:
    """Each image with the step of one random window moved into another; side 0 moves nothing.

    The first window is emptied. The second keeps its direction in each channel, turned toward the
    pattern of `_window` with a random sign, and gets the length of both and what the ball has left.

    Args:
        state: Has `points` and the `ball` around the images.
        side: Side in pixels of the square that the L-infinity attack would try.
        seed: Seed of places and signs.
    """
    images, ball = state.ball.images, state.ball
    n, height, width, channels = tf.unstack(tf.shape(images))
    room = tf.minimum(height, width)
    odd = tf.minimum(tf.maximum(side, _SMALLEST) // 2 * 2 + 1, room - 1 + room % 2)
    drawn = tf.random.stateless_uniform([n, 5 + channels], seed)
    rows, columns = _places(drawn[:, :2], odd, height, width)
    filled, emptied = _area(rows, columns), _area(*_places(drawn[:, 2:4], odd, height, width))
    upright = tf.einsum("nha,ab,nwb->nhw", rows, _window(odd), columns)
    across = tf.einsum("nha,ba,nwb->nhw", rows, _window(odd), columns)
    pattern = tf.where(drawn[:, 4, None, None] < 0.5, upright, across)[..., None]
    signs = tf.where(drawn[:, None, None, 5:] < 0.5, -1.0, 1.0)

    steps = state.points - images
    moved = ball.norm(steps * tf.maximum(filled, emptied))
    radius = tf.cast(ball.radius, tf.float32)
    unused = tf.maximum(tf.square(radius) - tf.square(ball.norm(steps)), 0.0)
    length = tf.sqrt(unused / tf.cast(channels, tf.float32) + tf.square(moved))
    turned = length * _normalized(pattern * signs + _normalized(steps * filled))
    steps = tf.where(filled > 0, turned, steps * (1 - emptied))
    return tf.where(side > 0, _to_surface(images, ball, steps), state.points)


def _window(side: tf.Tensor) -> tf.Tensor:
    """The pattern eta, [side, side] of norm 1: a hill beside a hollow.

    Each is squares around its middle on top of one another, the k-th from above 1 / k^2 high.
    """
    levels = 1 / tf.square(tf.range(1, side // 2 + 2))  # float64
    heights = tf.cast(tf.cumsum(levels, reverse=True), tf.float32)

    def hill(rows):
        down, across = (tf.abs(tf.range(size) - size // 2) for size in (rows, side))
        return tf.math.l2_normalize(tf.gather(heights, tf.maximum(down[:, None], across[None])))

    upper = side // 2
    return tf.math.l2_normalize(tf.concat([hill(upper), -hill(side - upper)], axis=0))


def _places(drawn, side, height, width):
    """Rows and columns of random windows, [n, height, side] and [n, width, side].

    There is a 1 at [i, j] where row i of the image is row j of its window.
    """
    for axis, size in ((0, height), (1, width)):
        first = tf.cast(drawn[:, axis, None] * tf.cast(size - side + 1, tf.float32), tf.int32)
        yield tf.one_hot(tf.range(size)[None] - first, side)


def _area(rows, columns):
    """1 at the pixels of a window, [n, height, width, 1]."""
    return (tf.reduce_sum(rows, axis=2)[:, :, None] * tf.reduce_sum(columns, axis=2)[:, None])[
        ..., None
    ]


def _normalized(steps):
    """Steps with norm 1 in each channel."""
    norm = tf.sqrt(tf.reduce_sum(tf.square(steps), axis=(1, 2), keepdims=True))
    return tf.math.divide_no_nan(steps, norm)


def _to_surface(images, ball, steps):
    """Images with steps as long as the radius, then cut to [0, 1]."""
    radius = tf.cast(ball.radius, tf.float32)
    return ball.project(images + radius * tf.math.divide_no_nan(steps, ball.norm(steps)))
