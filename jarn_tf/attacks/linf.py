"""The ball of Eq. 2 (L-infinity), cut to the range of pixels."""

from __future__ import annotations

from typing import NamedTuple

import tensorflow as tf

_AXES = (1, 2, 3)


def linf_bounds(images: tf.Tensor, epsilon: float | tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Smallest and largest pixels within `epsilon` of `images` and within [0, 1].

    Rounded inwards: the float32 sum of a pixel and epsilon can lie just outside the ball, these
    bounds never do.

    Args:
        images: float32 tensor in [0, 1].
        epsilon: Radius, at least 0, in pixel units of [0, 1]; a tensor has to be float64.

    Returns:
        Two float32 tensors of the shape of `images`.
    """
    exact = tf.cast(images, tf.float64)
    epsilon = tf.convert_to_tensor(epsilon, tf.float64)  # a cast would go through float32
    lower, upper = tf.cast(exact - epsilon, tf.float32), tf.cast(exact + epsilon, tf.float32)
    outside = tf.cast(lower, tf.float64) < exact - epsilon
    lower = tf.where(outside, tf.math.nextafter(lower, 2.0), lower)
    outside = tf.cast(upper, tf.float64) > exact + epsilon
    upper = tf.where(outside, tf.math.nextafter(upper, -1.0), upper)
    return tf.maximum(lower, 0.0), tf.minimum(upper, 1.0)


def project_linf(candidates: tf.Tensor, bounds: tuple[tf.Tensor, tf.Tensor]) -> tf.Tensor:
    """Proj of Eq. 4: the nearest images within the bounds of `linf_bounds`."""
    return tf.clip_by_value(candidates, *bounds)


class LinfBall(NamedTuple):
    """The balls around some images, a row each; the methods are those of `attacks.ball`."""

    lower: tf.Tensor
    upper: tf.Tensor

    @classmethod
    def around(cls, images: tf.Tensor, epsilon: float | tf.Tensor) -> LinfBall:
        return cls(*linf_bounds(images, epsilon))

    def project(self, candidates: tf.Tensor) -> tf.Tensor:
        return project_linf(candidates, self)

    def contains(self, points: tf.Tensor) -> tf.Tensor:
        return tf.reduce_all((points >= self.lower) & (points <= self.upper), axis=_AXES)

    @staticmethod
    def steepest(gradient: tf.Tensor) -> tf.Tensor:
        direction = tf.sign(gradient)
        return tf.where(tf.math.is_nan(direction), 0.0, direction)

    @staticmethod
    def norm(differences: tf.Tensor) -> tf.Tensor:
        return tf.reduce_max(tf.abs(differences), axis=_AXES, keepdims=True)

    @staticmethod
    def fill(noise: tf.Tensor, radius: float | tf.Tensor) -> tf.Tensor:
        del radius  # the cube is the ball
        return noise

    @classmethod
    def surface(cls, noise: tf.Tensor) -> tf.Tensor:
        return noise / cls.norm(noise)
