"""The MNIST classifier of Section 4.1."""

from __future__ import annotations

import keras

from jarn_tf.networks.activation import activation_layer


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
    layers = [keras.Input(image_shape)]
    if pixel_scale != 1:
        layers.append(keras.layers.Rescaling(pixel_scale))
    for channels in (64, 128, 256):
        layers += [
            keras.layers.Conv2D(channels, 5, strides=5, padding="same", kernel_regularizer=decay),
            activation_layer(activation),
        ]
    layers += [keras.layers.Flatten(), keras.layers.Dense(classes, kernel_regularizer=decay)]
    return keras.Sequential(layers, name="mnist_cnn")
