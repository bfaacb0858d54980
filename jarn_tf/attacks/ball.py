"""The balls that attacks stay in: images within a radius in some norm, and within [0, 1]."""

from __future__ import annotations

from typing import Protocol, Self

import tensorflow as tf

from jarn_tf.attacks.l2 import L2Ball
from jarn_tf.attacks.linf import LinfBall
from jarn_tf.randomness import uniform_rows


class Ball(Protocol):
    """One ball around each of some images; a `NamedTuple` of tensors with one row an image."""

    @classmethod
    def around(cls, images: tf.Tensor, epsilon: float | tf.Tensor) -> Self:
        """The balls of a radius around float32 images; a tensor as radius has to be float64."""

    def project(self, candidates: tf.Tensor) -> tf.Tensor:
        """Images of the ball near the candidates: within epsilon to the last float."""

    def contains(self, points: tf.Tensor) -> tf.Tensor:
        """Which of some points in [0, 1] lie in the ball, [n] booleans."""

    @classmethod
    def steepest(cls, gradient: tf.Tensor) -> tf.Tensor:
        """The step of norm 1 that climbs most along a gradient.

        0 where there is no gradient, as behind a rounding, or one that is not a number.
        """

    @classmethod
    def norm(cls, differences: tf.Tensor) -> tf.Tensor:
        """The norm of each row, [n, 1, 1, 1]."""

    @classmethod
    def fill(cls, noise: tf.Tensor, radius: float | tf.Tensor) -> tf.Tensor:
        """Steps uniform in the ball, of noise uniform in the cube [-radius, radius]."""

    @classmethod
    def surface(cls, noise: tf.Tensor) -> tf.Tensor:
        """Steps of norm 1 in random directions, of noise uniform in the cube [-1, 1]."""


#: Name of a norm, as in `arguments.NORMS`, to its balls.
BALLS: dict[str, type[Ball]] = {"linf": LinfBall, "l2": L2Ball}


def balls(norm: str, images: tf.Tensor, epsilon: float) -> Ball:
    """The balls around images, as arrays for the state of an attack."""
    around = BALLS[norm].around(images, epsilon)
    return tf.nest.map_structure(lambda rows: rows.numpy(), around)


def random_point(
    ball: Ball, images: tf.Tensor, radius: float, seed: tuple[int, int], first: int
) -> tf.Tensor:
    """A random direction from each image, `radius` long, then projected.

    The random starts of Croce & Hein (2020). `first` is the index of the first image among all that
    are attacked.
    """
    noise = uniform_rows(first, images.shape, seed, -1.0, 1.0)
    return ball.project(images + radius * ball.surface(noise))
