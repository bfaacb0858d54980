"""A mean of values that only some steps produce."""

from __future__ import annotations

import keras
import tensorflow as tf


@keras.saving.register_keras_serializable("jarn_tf")
class SeldomMean(keras.metrics.Mean):
    """As `keras.metrics.Mean`, but NaN, not 0, while no value has come."""

    def result(self):
        return tf.where(self.count > 0, super().result(), float("nan"))
