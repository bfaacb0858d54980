"""Networks may compute in low precision; logits, Jacobian and losses do not."""

from __future__ import annotations

from collections.abc import Iterator

import keras
import tensorflow as tf

#: What a loss is multiplied by before its gradient crosses layers in float16 to the image. It is
#: not divided by the batch, as that of weights is, so that less is needed: entries of the gradient
#: from 2e-10 to 250 are kept.
_FLOAT16_SCALE = 2.0**8


def at_least_float32(outputs: tf.Tensor) -> tf.Tensor:
    """What a network returns, as float32 where it computes in less (`mixed_bfloat16`)."""
    return outputs if outputs.dtype == tf.float64 else tf.cast(outputs, tf.float32)


def input_gradient(
    tape: tf.GradientTape, total: tf.Tensor, images: tf.Tensor, classifier: keras.Model
) -> tf.Tensor:
    """The gradient of a scalar with respect to images; 0 where it does not depend on them.

    It is scaled up on its way through a classifier that computes in float16, whose smallest number
    is 6e-8, and back in float32.
    """
    scale = _FLOAT16_SCALE if in_float16(classifier) else 1.0
    gradient = tape.gradient(
        total, images, output_gradients=tf.cast(scale, total.dtype), unconnected_gradients="zero"
    )
    return gradient / scale


def in_float16(layer: keras.Layer) -> bool:
    """Whether a layer, or one in it, computes in float16 (`mixed_float16`)."""
    return any(inner.compute_dtype == "float16" for inner in with_inner(layer))


def with_inner(layer: keras.Layer) -> Iterator[keras.Layer]:
    """A layer, and all layers in it."""
    yield layer
    for inner in getattr(layer, "layers", ()):
        yield from with_inner(inner)


@keras.saving.register_keras_serializable("jarn_tf")
class LossScaleOptimizer(keras.optimizers.LossScaleOptimizer):
    """Keras's, whose replicas agree on which steps to skip.

    That of keras 3.15 asks the first replica alone whether its gradients are finite, before they
    are summed.
    """

    @classmethod
    def around(cls, optimizer: keras.optimizers.Optimizer) -> LossScaleOptimizer:
        """With an optimizer inside, or in the place of Keras's."""
        if scales_losses(optimizer):
            return cls(
                optimizer.inner_optimizer, optimizer.initial_scale, optimizer.dynamic_growth_steps
            )
        return cls(optimizer)

    def apply(self, grads: list, trainable_variables: list | None = None) -> None:
        replicas = tf.distribute.get_replica_context()
        if replicas.num_replicas_in_sync > 1:
            size = tf.linalg.global_norm(grads)
            nothing = 0.0 * replicas.all_reduce(tf.distribute.ReduceOp.SUM, size)
            grads = [g if g is None else g + nothing for g in grads]
        super().apply(grads, trainable_variables)


def scales_losses(optimizer: keras.optimizers.Optimizer) -> bool:
    """Whether an optimizer skips the steps whose gradients overflow."""
    return isinstance(optimizer, keras.optimizers.LossScaleOptimizer)


def loss_scale(optimizer: keras.optimizers.Optimizer) -> tf.Tensor:
    """What an optimizer divides the gradients by that it is given; 1 unless it is for float16."""
    return tf.convert_to_tensor(optimizer.scale_loss(tf.constant(1.0)))
