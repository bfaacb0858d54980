"""The Euclidean ball (L2), cut to the range of pixels."""

from __future__ import annotations

import math
from typing import NamedTuple

import tensorflow as tf

_AXES = (1, 2, 3)
_HALF_ULP = 2.0**-25  # the largest rounding of a float32 in [0, 1]
_BELOW_1 = 1 - 2.0**-24


class L2Ball(NamedTuple):
    """The balls around some images, a row each; the methods are those of `attacks.ball`.

    The radius is smaller than epsilon by what rounding every pixel to float32 can add.
    """

    images: tf.Tensor
    radius: tf.Tensor  # float64 [n, 1, 1, 1]

    @classmethod
    def around(cls, images: tf.Tensor, epsilon: float | tf.Tensor) -> L2Ball:
        shape = tf.shape(images)
        pixels = tf.cast(tf.reduce_prod(shape[1:]), tf.float64)
        radius = tf.convert_to_tensor(epsilon, tf.float64) - _HALF_ULP * tf.sqrt(pixels)
        return cls(images, tf.fill([shape[0], 1, 1, 1], tf.maximum(radius, 0.0)))

    def project(self, candidates: tf.Tensor) -> tf.Tensor:
        """First onto the ball, then to [0, 1], as in the released code of AutoAttack.

        That is the nearest point of both wherever the candidate lies in the ball or in [0, 1]; of
        one outside both it is a point of both, but a nearer one can exist.
        """
        images = tf.cast(self.images, tf.float64)
        step = tf.cast(candidates, tf.float64) - images
        shrunk = tf.minimum(tf.math.divide_no_nan(self.radius, self.norm(step)), 1.0)
        return tf.clip_by_value(tf.cast(images + shrunk * step, candidates.dtype), 0.0, 1.0)

    def contains(self, points: tf.Tensor) -> tf.Tensor:
        step = tf.cast(points, tf.float64) - tf.cast(self.images, tf.float64)
        return (self.norm(step) <= self.radius)[:, 0, 0, 0]

    @classmethod
    def steepest(cls, gradient: tf.Tensor) -> tf.Tensor:
        gradient = tf.where(tf.math.is_nan(gradient), 0.0, gradient)
        gradient = tf.clip_by_value(gradient, gradient.dtype.min, gradient.dtype.max)
        # Squares of entries of 1e-23 would vanish.
        largest = tf.reduce_max(tf.abs(gradient), axis=_AXES, keepdims=True)
        return cls._unit(tf.math.divide_no_nan(gradient, largest))

    @staticmethod
    def norm(differences: tf.Tensor) -> tf.Tensor:
        return tf.sqrt(tf.reduce_sum(tf.square(differences), axis=_AXES, keepdims=True))

    @classmethod
    def fill(cls, noise: tf.Tensor, radius: float | tf.Tensor) -> tf.Tensor:
        normal = _normal(tf.math.divide_no_nan(noise, tf.cast(radius, noise.dtype)))
        # The squared length of a normal vector is chi-squared distributed, so that its distribution
        # function turns it into the uniform number that the volume within a radius grows as.
        freedom = tf.cast(tf.reduce_prod(tf.shape(noise)[1:]), tf.float64)
        squared = tf.square(tf.cast(cls.norm(normal), tf.float64))
        length = tf.pow(tf.math.igamma(freedom / 2, squared / 2), 1 / freedom)
        return tf.cast(radius, noise.dtype) * tf.cast(length, noise.dtype) * cls._unit(normal)

    @classmethod
    def surface(cls, noise: tf.Tensor) -> tf.Tensor:
        return cls._unit(_normal(noise))

    @classmethod
    def _unit(cls, vectors: tf.Tensor) -> tf.Tensor:
        return tf.math.divide_no_nan(vectors, cls.norm(vectors))


def _normal(uniform: tf.Tensor) -> tf.Tensor:
    """Normal numbers of numbers uniform in [-1, 1)."""
    return math.sqrt(2) * tf.math.erfinv(tf.clip_by_value(uniform, -_BELOW_1, _BELOW_1))
