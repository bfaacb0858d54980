"""Any Keras model as what this package trains and attacks: images in [0, 1] to logits."""

from __future__ import annotations

import math
import re

import keras
import numpy as np

from jarn_tf import arguments, checks

#: Smallest probability whose logarithm float32 has.
_TINY = float(np.finfo(np.float32).tiny)


def as_classifier(
    model: keras.Model,
    pixel_scale: float = 1.0,
    probabilities: bool = False,
    image_shape: tuple[int, int, int] | None = None,
) -> keras.Model:
    """A Keras model from images [batch, height, width, channels] in [0, 1] to logits.

    It shares its weights with `model`, and is `model` where that is such a model and has a graph.
    The weights of a last layer whose activation is undone are copied, because the layer has to be
    another one.

    Args:
        model: Any Keras model with one input and one output: images, also without a channel axis
            or flat, to [batch, classes]; or to [batch, 1], a yes or no, which becomes two logits,
            0 and its own.
        pixel_scale: Largest pixel value that `model` expects, such as 255.
        probabilities: Whether `model` returns probabilities. A last softmax or sigmoid is left out
            where the graph shows it. Elsewhere, as in a subclassed model, the logits are the
            logarithms of the probabilities, which have no gradient where one is below 1e-38.
        image_shape: (height, width, channels) where `model` does not know it: it has not been
            called yet, takes images of any size, or flat ones.

    Raises:
        ValueError: No model of one input and one output, an image shape that it does not take or
            has to be told, outputs that are not [batch, classes], or a scale that is not positive.
    """
    arguments.positive("pixel_scale", pixel_scale)
    if not isinstance(model, keras.Model):
        raise ValueError(f"model must be a Keras model. Received: {model!r}.")
    for name in ("inputs", "outputs"):
        found = getattr(model, name, None) or [None]
        if len(found) != 1:
            raise ValueError(
                f"model must have one input and one output. Received: {len(found)} {name}."
            )
    last, _ = checks.last_operation(model)
    if not probabilities and checks.squashes(last):
        raise ValueError(checks.PROBABILITIES)
    if probabilities and getattr(last, "activation", None) is keras.activations.linear:
        raise ValueError(
            "probabilities=True is for a model that returns probabilities. Received one that ends "
            f"in {last.name}, which has no activation. Leave it out."
        )
    image_shape, taken = _image_shape(model, image_shape)
    inputs = keras.Input(image_shape)
    images = keras.layers.Rescaling(pixel_scale)(inputs) if pixel_scale != 1 else inputs
    if taken != image_shape:
        images = keras.layers.Reshape(taken)(images)
    before = _without_squash(model) if probabilities else None
    outputs = _called(before or model, images)
    if len(outputs.shape) != 2:
        raise ValueError(
            "model must return [batch, classes], or [batch, 1] for a yes or no. Received outputs "
            f"{tuple(outputs.shape)}."
        )
    one = outputs.shape[-1] == 1
    if probabilities and before is None:
        outputs = _log(outputs) - (_log(1 - outputs) if one else 0)
    has_graph = getattr(model, "input_shape", None) == (None, *image_shape)
    if has_graph and images is inputs and not (one or probabilities):
        return model
    if one:
        outputs = keras.layers.ZeroPadding1D((1, 0))(outputs[..., None])[..., 0]
    return keras.Model(inputs, outputs, name=model.name)


def _image_shape(
    model: keras.Model, told: tuple[int, int, int] | None
) -> tuple[tuple[int, int, int], tuple[int, ...]]:
    """Shape of the images, and the shape in which the model takes them."""
    known = checks.input_shape(model)
    example = "jarn_tf.as_classifier(model, image_shape=(height, width, channels))"
    if told is not None:
        if not isinstance(told, (tuple, list)) or len(told) != 3:
            raise ValueError(
                "image_shape must be three whole numbers, height, width, channels. "
                f"Received: {told}."
            )
        for size in told:
            arguments.whole("each number of image_shape", size)
        told = tuple(map(int, told))
        if known is None or _fits(told, known[1:]):
            return told, told
        # Flat images and grey ones without a channel axis; not channels that come first.
        if len(known) < 4 and None not in known[1:] and math.prod(known[1:]) == math.prod(told):
            return told, tuple(known[1:])
        raise ValueError(f"model takes images {known[1:]}. Received image_shape {told}.")
    if known is None:
        raise ValueError(f"model has not seen an image yet. Give {example}.")
    sizes = tuple(known[1:])
    if len(sizes) == 2 and None not in sizes:
        return (*sizes, 1), sizes
    if len(sizes) != 3 or None in sizes:
        raise ValueError(f"model takes inputs {known}. Give {example}.")
    return sizes, sizes


def _fits(shape: tuple[int, ...], known: tuple[int | None, ...]) -> bool:
    return len(shape) == len(known) and all(k in (None, s) for s, k in zip(shape, known))


def _called(model: keras.Model, images: keras.KerasTensor) -> keras.KerasTensor:
    try:
        with checks.as_value_error():
            outputs = model(images)
    except Exception as error:  # whatever a model of somebody else's raises
        raise ValueError(
            f"model cannot be called on images {tuple(images.shape)}: {_reason(error)}"
        ) from None
    if not isinstance(outputs, keras.KerasTensor):
        raise ValueError(f"model must have one output. Received outputs {outputs!r}.")
    return outputs


def _reason(error: Exception) -> str:
    """One line of an error: what comes after Keras's own words, which come first, coloured."""
    text = re.sub("\x1b\\[[0-9;]*m", "", str(error))
    for before in ("^Exception encountered when .*", "^.*Error encountered:"):
        text = re.sub(before, "", text.strip())
    return next((line.strip() for line in text.splitlines() if line.strip()), repr(error))


def _without_squash(model: keras.Model) -> keras.Model | None:
    """The model up to its last softmax or sigmoid; None where its graph shows none."""
    operation, taken = checks.last_operation(model)
    if isinstance(operation, keras.Model):
        inner = _without_squash(operation)
        outputs = inner and inner(taken)
    elif not checks.squashes(operation):
        outputs = None
    else:
        outputs = _linear(operation, taken)(taken) if getattr(operation, "weights", None) else taken
    return None if outputs is None else keras.Model(model.inputs, outputs, name=model.name)


def _linear(layer: keras.Layer, taken: keras.KerasTensor) -> keras.Layer:
    """The layer without its activation, with a copy of its weights."""
    copy = type(layer).from_config(layer.get_config() | {"activation": "linear"})
    copy.build(taken.shape)
    copy.set_weights(layer.get_weights())
    return copy


def _log(probabilities: keras.KerasTensor) -> keras.KerasTensor:
    return keras.ops.log(keras.ops.maximum(probabilities, _TINY))
