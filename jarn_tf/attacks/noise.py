"""Uniform noise: the augmentation of Algorithm 1 line 4 and the Uniform Noise baseline."""

from __future__ import annotations

import keras
import tensorflow as tf

from jarn_tf import arguments
from jarn_tf.randomness import BatchSlice


@keras.saving.register_keras_serializable("jarn_tf")
class UniformNoise:
    """Adds noise uniform in [-epsilon, epsilon] to each pixel, then clips to [0, 1].

    The paper does not speak of clipping; the authors' released code clips.

    Args:
        epsilon: Radius xi_i is drawn from, in pixel units of [0, 1].
        fraction: Share of each batch that gets noise, its first images; 1 in the paper.
    """

    def __init__(self, epsilon: float, fraction: float = 1.0):
        arguments.radius(epsilon)
        arguments.fraction("fraction", fraction)
        self.epsilon = float(epsilon)
        self.fraction = fraction

    def __call__(
        self, classifier: keras.Model, images: tf.Tensor, labels: tf.Tensor, batch: BatchSlice
    ) -> tf.Tensor:
        del classifier, labels
        noise = batch.uniform(images, -self.epsilon, self.epsilon)
        noisy = tf.clip_by_value(images + noise, 0.0, 1.0)
        chosen = tf.cast(batch.rows, tf.float32) < self.fraction * tf.cast(batch.total, tf.float32)
        return tf.where(chosen[:, None, None, None], noisy, images)

    def get_config(self) -> dict:
        return {"epsilon": self.epsilon, "fraction": self.fraction}

    @classmethod
    def from_config(cls, config: dict) -> UniformNoise:
        return cls(**config)
