"""A mean of values that only some steps produce."""

from __future__ import annotations

import math
from collections.abc import Mapping

import keras
import tensorflow as tf


@keras.saving.register_keras_serializable("jarn_tf")
class SeldomMean(keras.metrics.Mean):
    """As `keras.metrics.Mean`, but NaN, not 0, while no value has come."""

    def result(self):
        return tf.where(self.count > 0, super().result(), float("nan"))


def with_values(logs: Mapping[str, float] | None) -> dict[str, float]:
    """Keras's logs without what has no value, such as a `SeldomMean` that saw none."""
    values = {name: float(value) for name, value in (logs or {}).items()}
    return {name: value for name, value in values.items() if not math.isnan(value)}
