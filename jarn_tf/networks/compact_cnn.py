"""A small classifier of natural images, for processors without a GPU."""

from __future__ import annotations

import keras

from jarn_tf import arguments
from jarn_tf.networks.activation import activation_layer

#: Mean and variance of CIFAR-10's training images, per channel, pixels in [0, 1].
_MEAN = (0.4914, 0.4822, 0.4465)
_VARIANCE = (0.0610, 0.0593, 0.0684)


def compact_cnn(
    image_shape: tuple[int, int, int] = (32, 32, 3),
    classes: int = 10,
    weight_decay: float = 0.0,
    activation: str = "gelu",
    normalization: str = "dataset",
) -> keras.Model:
    """Seven convolutions with batch normalisation, 32 to 96 channels, and a dense layer.

    Ours, not the paper's: 250,000 weights and 9 million multiplications an image where the paper's
    Wide-ResNet has 46 million and 5 billion. The first convolution halves the image already,
    because that is where the time goes.

    Args:
        image_shape: (height, width, channels).
        classes: Number of classes.
        weight_decay: Coefficient of the L2 penalty of the kernels.
        activation: One of `arguments.ACTIVATIONS`.
        normalization: Of the input. `"dataset"`: by the mean and variance of CIFAR-10's training
            images (per channel; their mean over the channels where there are not three).
            `"image"`: by each image's own, as in `wide_resnet`; a Jacobian is then orthogonal to
            the centred image.

    Returns:
        Keras model from images in [0, 1] to logits [batch, classes].
    """
    decay = keras.regularizers.L2(weight_decay / 2) if weight_decay else None
    layers = [keras.Input(image_shape), _normalization(normalization, image_shape[-1])]
    for channels, kernel, stride in (
        (32, 5, 2),
        (48, 3, 1),
        (48, 3, 2),
        (64, 3, 1),
        (64, 3, 2),
        (96, 3, 1),
        (96, 3, 2),
    ):
        layers += [
            keras.layers.Conv2D(
                channels,
                kernel,
                strides=stride,
                padding="same",
                use_bias=False,
                kernel_initializer="he_normal",
                kernel_regularizer=decay,
            ),
            keras.layers.BatchNormalization(momentum=0.9),
            activation_layer(activation),
        ]
    layers += [keras.layers.Flatten(), keras.layers.Dense(classes, kernel_regularizer=decay)]
    return keras.Sequential(layers, name="compact_cnn")


def _normalization(name: str, channels: int) -> keras.Layer:
    arguments.one_of("normalization", name, arguments.NORMALIZATIONS)
    if name == "image":
        return keras.layers.LayerNormalization(
            axis=(1, 2, 3), epsilon=1e-5, center=False, scale=False
        )
    if channels == 3:
        return keras.layers.Normalization(mean=_MEAN, variance=_VARIANCE)
    return keras.layers.Normalization(mean=sum(_MEAN) / 3, variance=sum(_VARIANCE) / 3, axis=None)
