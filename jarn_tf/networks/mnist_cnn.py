"""The MNIST classifier of Section 4.1."""

from __future__ import annotations

import math

import keras

from jarn_tf.networks.activation import activation_layer

#: Side of the kernels, and their stride.
_SIDE = 5


def mnist_cnn(
    image_shape: tuple[int, int, int] = (28, 28, 1),
    classes: int = 10,
    pixel_scale: float = 1.0,
    weight_decay: float = 0.0,
    activation: str = "relu",
) -> keras.Model:
    """Three convolutions of stride 5 with 64, 128 and 256 channels, and a dense layer.

    The paper gives strides and channels. Kernel 5x5, "same" padding and ReLU are ours: smaller
    kernels would leave pixels unread, and without padding the third convolution has no input.

    Args:
        image_shape: (height, width, channels).
        classes: Number of classes.
        pixel_scale: What images in [0, 1] are multiplied by at the input; 255 gives the pixel
            range in which the authors' released code works.
        weight_decay: Coefficient of the L2 penalty of the kernels.
        activation: `"relu"`, `"leaky_relu"`, `"gelu"` or `"softplus"`.

    Returns:
        Keras model from images in [0, 1] to logits [batch, classes].
    """
    decay = keras.regularizers.L2(weight_decay / 2) if weight_decay else None
    x = inputs = keras.Input(image_shape)
    if pixel_scale != 1:
        x = keras.layers.Rescaling(pixel_scale)(x)
    for channels in (64, 128, 256):
        x = _strided_convolution(x, channels, decay)
        x = activation_layer(activation)(x)
    outputs = keras.layers.Dense(classes, kernel_regularizer=decay)(keras.layers.Flatten()(x))
    return keras.Model(inputs, outputs, name="mnist_cnn")


def _strided_convolution(x, channels: int, decay: keras.Regularizer | None):
    """Conv2D(channels, 5, strides=5, padding="same") of the same function and initial weights.

    Its 5x5 patches do not overlap, so it is one matrix product. TensorFlow's gradient of such a
    convolution with respect to its input takes up to ten times as long as the rest of a step.
    """
    height, width, before = x.shape[1:]
    rows, columns = -(-height // _SIDE), -(-width // _SIDE)
    missing = rows * _SIDE - height, columns * _SIDE - width
    x = keras.layers.ZeroPadding2D(tuple((m // 2, m - m // 2) for m in missing))(x)
    x = keras.layers.Reshape((rows, _SIDE, columns, _SIDE, before))(x)
    x = keras.layers.Permute((1, 3, 2, 4, 5))(x)
    x = keras.layers.Reshape((rows, columns, _SIDE * _SIDE * before))(x)
    # Glorot's initial weights depend on the fans, and a dense layer has others.
    limit = math.sqrt(6 / (_SIDE * _SIDE * (before + channels)))
    return keras.layers.Dense(
        channels,
        kernel_initializer=keras.initializers.RandomUniform(-limit, limit),
        kernel_regularizer=decay,
    )(x)
