"""The adaptor f_apt: one 1x1 convolution with tanh (Section 3)."""

from __future__ import annotations

import keras
import numpy as np


def adaptor(
    image_shape: tuple[int, int, int],
    trainable: bool = True,
    weight_decay: float = 0.0,
    gain: float = 1.0,
) -> keras.Model:
    """Maps Jacobians to the domain of images: J' = tanh(conv1x1(J)) (Eq. 7).

    Starts as J' = tanh(gain J) (the paper gives no initial values), so that a channel's sign is
    right from the first step.

    Args:
        image_shape: (height, width, channels).
        trainable: False keeps J' = tanh(gain J).
        weight_decay: Coefficient of the L2 penalty, weight_decay / 2 * |kernel|^2.
        gain: Factor on J at the start. A large one lets small Jacobians look like images.

    Returns:
        Keras model from [batch, *image_shape] to the same shape, values in [-1, 1].
    """
    channels = image_shape[-1]
    convolution = keras.layers.Conv2D(
        channels,
        1,
        activation="tanh",
        kernel_regularizer=keras.regularizers.L2(weight_decay / 2) if weight_decay else None,
        name="conv1x1",
    )
    model = keras.Sequential([keras.Input(image_shape), convolution], name="adaptor")
    convolution.set_weights([gain * np.eye(channels)[None, None], np.zeros(channels)])
    model.trainable = trainable
    return model
