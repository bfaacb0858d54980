"""The Wide-ResNet of Madry et al. (2018), the classifier of Sections 4.2 and 4.3."""

from __future__ import annotations

import dataclasses

import keras

from jarn_tf.networks.activation import activation_layer


def wide_resnet(
    image_shape: tuple[int, int, int] = (32, 32, 3),
    classes: int = 10,
    units: int = 5,
    width: int = 10,
    weight_decay: float = 0.0,
    activation: str = "leaky_relu",
) -> keras.Model:
    """Pre-activation residual network in three stages of 16, 32 and 64 times `width` channels.

    With 5 units a stage and width 10 it is the network of Madry et al.'s CIFAR-10 challenge and
    of the authors' released code: leaky ReLU of slope 0.1, batch normalisation of momentum 0.9,
    shortcuts by average pooling and zero channels, no biases but the last.

    Args:
        image_shape: (height, width, channels).
        classes: Number of classes.
        units: Residual units a stage (depth is 6 * units + 4).
        width: Widening factor.
        weight_decay: Coefficient of the L2 penalty of the kernels (2e-4 in both sources).
        activation: `"relu"`, `"leaky_relu"`, `"gelu"` or `"softplus"`.

    Returns:
        Keras model from images in [0, 1] to logits [batch, classes]; it standardises each image
        itself.
    """
    inputs = keras.Input(image_shape)
    # Each image to zero mean and unit variance, in 0..255 as Madry et al. do it: 1 / (number of
    # values) is then the floor under the variance that TensorFlow's own per-image function has.
    x = keras.layers.Rescaling(255.0)(inputs)
    floor = 1 / (image_shape[0] * image_shape[1] * image_shape[2])
    x = keras.layers.LayerNormalization(axis=(1, 2, 3), epsilon=floor, center=False, scale=False)(x)
    decay = keras.regularizers.L2(weight_decay / 2) if weight_decay else None
    block = _Blocks(activation, decay)
    x = block.convolution(x, 16, 1)
    for stage, channels in enumerate((16 * width, 32 * width, 64 * width)):
        for unit in range(units):
            first = unit == 0
            x = block.residual_unit(x, channels, 2 if first and stage else 1, first and stage == 0)
    x = keras.layers.GlobalAveragePooling2D()(block.normalize_and_activate(x))
    outputs = keras.layers.Dense(classes, kernel_regularizer=decay)(x)
    return keras.Model(inputs, outputs, name="wide_resnet")


@dataclasses.dataclass(frozen=True)
class _Blocks:
    """What the network is put together from."""

    activation: str
    decay: keras.Regularizer | None

    def convolution(self, x, channels, stride):
        return keras.layers.Conv2D(
            channels,
            3,
            strides=stride,
            padding="same",
            use_bias=False,
            kernel_initializer="he_normal",
            kernel_regularizer=self.decay,
        )(x)

    def normalize_and_activate(self, x):
        x = keras.layers.BatchNormalization(momentum=0.9)(x)
        return activation_layer(self.activation)(x)

    def residual_unit(self, x, channels, stride, activate_before_shortcut):
        y = self.normalize_and_activate(x)
        shortcut = y if activate_before_shortcut else x
        y = self.convolution(y, channels, stride)
        y = self.convolution(self.normalize_and_activate(y), channels, 1)
        missing = channels - shortcut.shape[-1]
        if missing:
            shortcut = keras.layers.AveragePooling2D(stride)(shortcut)
            padding = ((0, 0), (0, 0), (0, 0), (missing // 2, missing - missing // 2))
            shortcut = keras.ops.pad(shortcut, padding)
        return keras.layers.Add()([y, shortcut])
