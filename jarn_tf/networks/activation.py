"""The activations that the classifiers can be built with."""

from __future__ import annotations

import keras

from jarn_tf import arguments


def activation_layer(name: str) -> keras.Layer:
    """A layer for one of `arguments.ACTIVATIONS`.

    ReLU and leaky ReLU (slope 0.1, Madry et al.) have no second derivative; GELU and softplus are
    smooth, which penalties on the input gradient profit from (Natural Input Gradients, 2024).

    Raises:
        ValueError: An unknown name.
    """
    arguments.one_of("activation", name, arguments.ACTIVATIONS)
    return keras.layers.LeakyReLU(0.1) if name == "leaky_relu" else keras.layers.Activation(name)
