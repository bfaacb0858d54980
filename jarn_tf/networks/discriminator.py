"""The discriminator f_disc: strided convolutions and a logit (Sections 4.1 to 4.3)."""

from __future__ import annotations

import math
from collections.abc import Sequence

import keras


def discriminator(
    image_shape: tuple[int, int, int],
    filters: Sequence[int] | None = None,
    batch_norm: bool = False,
    weight_decay: float = 0.0,
    patches: bool = False,
) -> keras.Model:
    """Tells images from adapted Jacobians.

    The paper gives the number of convolutions and their channels: (64, 128) on MNIST,
    (16, 32, 64, 128, 256) on SVHN, (32, 64, 128, 256, 512) on CIFAR-10. Kernel 4x4, stride 2 and
    leaky ReLU of slope 0.1 are those of the authors' released code, which also normalises each
    convolution over the batch (`batch_norm`).

    Args:
        image_shape: (height, width, channels).
        filters: Output channels of each convolution; unless told (64, 128), as on MNIST, and
            one of 256 more for each doubling of the size above 32 pixels.
        batch_norm: Batch normalisation behind each convolution.
        weight_decay: Coefficient of the L2 penalty of the kernels.
        patches: Whether the logit is the mean of one logit a patch (Isola et al., 2017), so that
            only what is inside a patch is judged; else a dense layer looks at all of them.

    Returns:
        Keras model from [batch, *image_shape] to a logit [batch, 1]; f_disc is its sigmoid. The
        authors' code has two softmax outputs, which is the same function.
    """
    if filters is None:
        size = max(image_shape[:2])
        filters = (64, 128, *[256] * max(0, math.ceil(math.log2(size / 32))))
    decay = keras.regularizers.L2(weight_decay / 2) if weight_decay else None
    layers = [keras.Input(image_shape)]
    for channels in filters:
        layers.append(
            keras.layers.Conv2D(channels, 4, strides=2, padding="same", kernel_regularizer=decay)
        )
        if batch_norm:
            layers.append(keras.layers.BatchNormalization(momentum=0.9))
        layers.append(keras.layers.LeakyReLU(0.1))
    layers += [
        keras.layers.GlobalAveragePooling2D() if patches else keras.layers.Flatten(),
        keras.layers.Dense(1, kernel_regularizer=decay),
    ]
    return keras.Sequential(layers, name="discriminator")
