"""The ball of Eq. 2 (L-infinity), cut to the range of pixels."""

from __future__ import annotations

import tensorflow as tf

from jarn_tf.randomness import uniform_rows


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


def random_point(
    images: tf.Tensor,
    radius: float,
    bounds: tuple[tf.Tensor, tf.Tensor],
    seed: tuple[int, int],
    first: int,
) -> tf.Tensor:
    """Uniform noise, scaled so that its largest value in each image is `radius`, then projected.

    The random starts of Croce & Hein (2020). `first` is the index of the first image among all that
    are attacked.
    """
    noise = uniform_rows(first, images.shape, seed, -1.0, 1.0)
    noise /= tf.reduce_max(tf.abs(noise), axis=(1, 2, 3), keepdims=True)
    return project_linf(images + radius * noise, bounds)
