"""Networks may compute in low precision; logits, Jacobian and losses do not."""

from __future__ import annotations

import tensorflow as tf


def at_least_float32(outputs: tf.Tensor) -> tf.Tensor:
    """What a network returns, as float32 where it computes in less (`mixed_bfloat16`)."""
    return outputs if outputs.dtype == tf.float64 else tf.cast(outputs, tf.float32)
