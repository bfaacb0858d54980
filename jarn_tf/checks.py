"""Checks of models and tensors that users hand in: what is wrong, what came, what to do."""

from __future__ import annotations

import contextlib
import re
import textwrap
from collections.abc import Iterator

import keras
import numpy as np
import tensorflow as tf

from jarn_tf import arguments
from jarn_tf.batches import slices
from jarn_tf.labels import flat
from jarn_tf.precision import with_inner

PROBABILITIES = (
    "classifier must return logits. Received one that returns probabilities. Remove its last "
    "softmax or sigmoid, or give jarn_tf.as_classifier(model, probabilities=True); to a command "
    "--probabilities."
)
_BRANCHES = (
    "The classifier cannot be compiled: its call looks at values of a tensor in Python (if, while, "
    "for). Choose by keras.ops.where or keras.ops.cond, repeat by keras.ops.while_loop."
)
#: How far beyond [0, 1] pixels may be by rounding; they are clipped.
_ROUNDING = 1e-6
_HELP = "See jarn_tf.as_classifier"


def classifier(model: keras.Model) -> None:
    """Raises ValueError unless `model` is built and maps images to logits [batch, classes]."""
    input_shape, output_shape = shapes(model)
    if len(input_shape) != 4:
        raise ValueError(
            "classifier must take images [batch, height, width, channels]. "
            f"Received a model of inputs {input_shape}. {_HELP}."
        )
    if len(output_shape) != 2 or output_shape[-1] is None or output_shape[-1] < 2:
        raise ValueError(
            "classifier must return logits [batch, classes] of at least 2 classes. "
            f"Received a model of outputs {output_shape}. {_HELP} for a yes or no."
        )
    if squashes(last_operation(model)[0]):
        raise ValueError(PROBABILITIES)


def last_operation(
    model: keras.Model,
) -> tuple[keras.Operation, keras.KerasTensor] | tuple[None, None]:
    """What makes a model's output, and the tensor it makes it of; Nones if it has no graph."""
    try:
        operation, node, _ = model.outputs[0]._keras_history
        return operation, operation._inbound_nodes[node].input_tensors[0]
    except (AttributeError, IndexError, TypeError):  # a subclass
        return None, None


def squashes(operation: keras.Operation | None) -> bool:
    """Whether an operation, layer or model ends in a softmax or sigmoid, as far as one can see."""
    if isinstance(operation, keras.Model):
        return squashes(last_operation(operation)[0])
    squashing = keras.activations.sigmoid, keras.activations.softmax
    # Layers and operations of Keras have the same names.
    return type(operation).__name__ in ("Softmax", "Sigmoid") or (
        getattr(operation, "activation", None) in squashing
    )


def fits_images(name: str, model: keras.Model, image_shape: tuple, output_shape: tuple) -> None:
    """Raises ValueError unless `model` maps batches of `image_shape` to `output_shape`."""
    received = shapes(model, name)
    expected = ((None, *image_shape), (None, *output_shape))
    if any(len(r) != len(e) for r, e in zip(received, expected)) or any(
        r not in (None, e)
        for got, want in zip(received, expected)
        for r, e in zip(got[1:], want[1:])
    ):
        raise ValueError(
            f"{name} must map {expected[0]} to {expected[1]}, to fit the classifier's images. "
            f"Received a model from {received[0]} to {received[1]}."
        )


def shapes(model: keras.Model, name: str = "classifier") -> tuple[tuple, tuple]:
    """Shapes of a model's inputs and outputs, also of a subclassed model that has been called.

    Raises:
        ValueError: No built model of one input and one output.
    """
    received = input_shape(model)
    try:
        returned = tuple(model.output_shape)
    except AttributeError:  # a subclass
        returned = ()
        if received is not None and None not in received[1:]:
            outputs = model(tf.zeros((1, *received[1:])), training=False)
            returned = (None, *getattr(outputs, "shape", ())[1:])
    if received is None or not _is_shape(returned):
        raise ValueError(
            f"{name} must be a built Keras model with one input and one output. Received: "
            f"{model!r}. Call it on images once, give it an Input layer, or give "
            "jarn_tf.as_classifier(model, image_shape=(height, width, channels))."
        )
    return received, returned


def precision(model: keras.Model) -> None:
    """Raises ValueError unless a model computes in float32, or under a mixed policy.

    Single layers may compute in more.
    """
    low = ("float16", "bfloat16")
    others = [layer for layer in with_inner(model) if layer.variable_dtype in low]
    others += [model] if model.compute_dtype == "float64" else []
    if others:
        raise ValueError(
            "The classifier must compute in float32, or under the policy mixed_bfloat16 or "
            f"mixed_float16. Received a layer {others[0].name} that computes in "
            f"{others[0].compute_dtype} with variables in {others[0].variable_dtype}."
        )


def in_scope(name: str, model: keras.Model) -> None:
    """Raises ValueError if a strategy's scope is open and `model` was made outside of it."""
    strategy = tf.distribute.get_strategy()
    if tf.distribute.has_strategy() and not all(
        strategy.extended.variable_created_in_scope(variable.value) for variable in model.variables
    ):
        raise ValueError(
            f"{name} must be made in the strategy's scope. Received one that was made before. "
            "Build or load it within `with strategy.scope():`."
        )


def classes(model: keras.Model) -> int:
    """Number of classes of a classifier."""
    return shapes(model)[1][-1]


def input_shape(model: keras.Model) -> tuple | None:
    """(None, ...) where a model has one input and knows it: built, or a subclass once called."""
    try:
        received = model.input_shape
    except AttributeError:
        received = (getattr(model, "get_build_config", dict)() or {}).get("input_shape")
    return (None, *received[1:]) if _is_shape(received) else None


def _is_shape(found: object) -> bool:
    return (
        isinstance(found, (tuple, list))
        and len(found) > 0
        and all(size is None or isinstance(size, int) for size in found)
    )


def fitting(images: tf.Tensor | keras.KerasTensor, input_shape: tuple) -> tf.Tensor:
    """The images with a channel axis, if they are grey ones without it.

    Raises:
        ValueError: Images of another shape, or that are not floating point.
    """
    _floating(images)
    if len(images.shape) == 3 and input_shape[-1] == 1:
        images = images[..., None]
    _of_shape(images, input_shape)
    return images


def _floating(images: np.ndarray | tf.Tensor | keras.KerasTensor) -> None:
    dtype = keras.backend.standardize_dtype(images.dtype)
    if not keras.backend.is_float_dtype(dtype):
        raise ValueError(
            f"images must be floating point in [0, 1]. Received: {dtype}. "
            "Divide 8-bit pixels by 255."
        )


def _of_shape(images: np.ndarray | tf.Tensor | keras.KerasTensor, expected: tuple) -> None:
    if not tf.TensorShape(images.shape).is_compatible_with(expected):
        axis = " Give images[..., None]." if expected[-1] == 1 and len(images.shape) == 3 else ""
        raise ValueError(
            f"images must be of shape {expected}, as the classifier takes them. Received: "
            f"{tuple(images.shape)}.{axis}"
        )


def static(labels: tf.Tensor | tf.TensorSpec, classes: int) -> None:
    """Checks what is known of labels without looking at values: type and shape."""
    rank = labels.shape.rank
    if rank is None:
        raise ValueError(
            "labels must stay integers or stay one-hot rows. Received both, of one type. Call "
            "compile before the other kind."
        )
    if rank not in (1, 2) or (rank == 2 and labels.shape[-1] != classes):
        raise ValueError(
            f"labels must be integers [batch] or [batch, 1], or one-hot rows [batch, {classes}]. "
            f"Received shape {tuple(labels.shape)}."
        )
    if not (labels.dtype.is_integer or (rank == 2 and labels.dtype.is_floating)):
        raise ValueError(
            f"labels must be integers, or one-hot rows of numbers. Received: {labels.dtype.name}."
        )


def values(images: tf.Tensor, labels: tf.Tensor, classes: int) -> list[tf.Operation]:
    """Checks of the values: images in [0, 1], but for rounding, labels among the classes.

    They raise `tf.errors.InvalidArgumentError`; `as_value_error` turns it into one line.
    """
    assertions = []
    low, high = tf.reduce_min(images), tf.reduce_max(images)
    # Written so that NaN fails too: every comparison with NaN is false.
    assertions += require(
        (low >= -_ROUNDING) & (high <= 1 + _ROUNDING) | tf.equal(tf.size(images), 0),
        "images must lie in [0, 1]. Received values from ", low, " to ", high,
        ". Divide pixels up to 255 by 255.",
    )  # fmt: skip
    if labels.shape.rank == 1:
        assertions += require(
            tf.reduce_all((labels >= 0) & (labels < classes)),
            f"labels must lie in 0..{classes - 1}, as the classifier has {classes} classes. "
            "Received values from ", tf.reduce_min(labels), " to ", tf.reduce_max(labels), ".",
        )  # fmt: skip
    return assertions


def floats(images: np.ndarray | tf.Tensor) -> tf.Tensor:
    """Images float32 in [0, 1] from those that `batch` accepts: `uint8` is divided by 255."""
    images = tf.convert_to_tensor(images)
    of_bytes = images.dtype == tf.uint8
    images = tf.cast(images, tf.float32)
    return images / 255 if of_bytes else tf.clip_by_value(images, 0.0, 1.0)


def batch(
    model: keras.Model, images: np.ndarray | tf.Tensor, labels: np.ndarray | tf.Tensor
) -> tuple[tf.Tensor, tf.Tensor]:
    """Images as of `floats`, and labels as of `flat`, as tensors, checked against `model`.

    Args:
        model: The classifier.
        images: Images [batch, height, width, channels], `uint8` or floating point in [0, 1]. What
            is at most 1e-6 outside is clipped.
        labels: Integers [batch] or [batch, 1], or one-hot rows.

    Raises:
        ValueError: The classifier, images, labels or logits are none of that.
    """
    return _tensors(model, *_arrays(model, images, labels))


def batches(
    model: keras.Model,
    images: np.ndarray | tf.Tensor,
    labels: np.ndarray | tf.Tensor,
    batch_size: int,
) -> tuple[np.ndarray | tf.Tensor, np.ndarray | tf.Tensor]:
    """Images and labels [n] or one-hot as arrays, their values checked so many at a time.

    Raises:
        ValueError: As `batch`, or there are none.
    """
    arguments.whole("batch_size", batch_size)
    images, labels, count = _arrays(model, images, labels)
    some(images)
    for part in slices(len(images), batch_size):
        _tensors(model, images[part], labels[part], count)
    return images, labels


def some(images: np.ndarray | tf.Tensor) -> None:
    """Raises ValueError if there are none."""
    if images.shape[0] == 0:
        raise ValueError("There must be at least one image. Received: none.")


def _arrays(
    model: keras.Model, images: object, labels: object
) -> tuple[np.ndarray | tf.Tensor, np.ndarray | tf.Tensor, int]:
    """Images, labels as of `flat`, number of classes; all checked but for values."""
    classifier(model)
    images, labels = array("images", images), flat(array("labels", labels))
    expected, (_, count) = shapes(model)
    _of_shape(images, expected)
    if images.dtype != tf.uint8:
        _floating(images)
    static(tf.TensorSpec(labels.shape, labels.dtype), count)
    if images.shape[0] != labels.shape[0]:
        raise ValueError(
            "images and labels differ in number. "
            f"Received: {images.shape[0]} and {labels.shape[0]}."
        )
    return images, labels, count


def _tensors(
    model: keras.Model, images: np.ndarray | tf.Tensor, labels: np.ndarray | tf.Tensor, count: int
) -> tuple[tf.Tensor, tf.Tensor]:
    """What `_arrays` returns as tensors, images as of `floats`, with their values checked."""
    images, labels = tf.convert_to_tensor(images), tf.convert_to_tensor(labels)
    if labels.shape.rank == 2 and not tf.reduce_all(
        (tf.reduce_max(labels, axis=-1) == 1) & (tf.reduce_sum(tf.abs(labels), axis=-1) == 1)
    ):
        raise ValueError(
            f"labels [batch, {count}] must be one-hot rows. Received rows without exactly one 1."
        )
    if images.dtype == tf.uint8:
        images = floats(images)
    with as_value_error():
        values(images, labels, count)
    images = floats(images)
    logits(model, images)
    return images, labels


def array(name: str, values: object) -> np.ndarray | tf.Tensor:
    """Images or labels as rows of numbers, an array or tensor. ValueError if they are none."""
    if values is None:
        raise ValueError(
            f"{name} are missing. Give images and labels, or a tf.data.Dataset of both for images."
        )
    try:
        found = values if isinstance(values, tf.Tensor) else np.asarray(values)
        dtype = tf.as_dtype(found.dtype)  # those of objects are taken for text
    except (NotImplementedError, OverflowError, TypeError, ValueError):
        found = None
    if found is None or tf.TensorShape(found.shape).rank == 0 or dtype == tf.string:
        raise ValueError(
            f"{name} must be an array of numbers, a row an image, and come in batches. Received: "
            f"{textwrap.shorten(repr(values), 100)}. Of a dataset give dataset.batch(128)."
        )
    return found


def logits(model: keras.Model, images: tf.Tensor) -> None:
    """Raises ValueError unless the outputs for these images can be logits.

    With probabilities for logits the softmax is taken twice, and attacks come out too weak.
    """
    if not len(images):
        return
    outputs = model(images, training=False)
    if not tf.reduce_all(tf.math.is_finite(outputs)):
        raise ValueError(
            "The classifier's logits are not finite for some of the images. No accuracy can be "
            "given. Train it again with a lower learning rate."
        )
    if tf.reduce_min(outputs) >= 0 and tf.reduce_max(outputs) <= 1:
        varied = tf.reduce_any(outputs != outputs[:1])  # a constant classifier may well lie there
        between = tf.reduce_any((outputs > 0) & (outputs < 1))
        distributions = tf.reduce_all(tf.abs(tf.reduce_sum(outputs, axis=-1) - 1) < 1e-3)
        # Of a few images small logits can lie there by chance.
        if (distributions and (varied or between)) or (varied and len(images) >= 64):
            raise ValueError(PROBABILITIES)


def require(condition: tf.Tensor, *message: str | tf.Tensor) -> list[tf.Operation]:
    """Assertion whose message `as_value_error` can read back.

    Returns:
        What has to run first, for `tf.control_dependencies`: in a graph nothing else waits for
        the assertion. Empty in eager mode, where it has run.
    """
    parts = [m if isinstance(m, str) else tf.strings.as_string(m) for m in message]
    assertion = tf.debugging.Assert(condition, [tf.strings.join(["<<", *parts, ">>"])])
    return [] if assertion is None else [assertion]


@contextlib.contextmanager
def as_value_error() -> Iterator[None]:
    """Turns what compiling or running a classifier raises into a ValueError of one line.

    That is a failed `require`, and a classifier that branches in Python on what it computes.
    """
    try:
        yield
    except tf.errors.OperatorNotAllowedInGraphError:
        raise ValueError(_BRANCHES) from None
    except tf.errors.InvalidArgumentError as error:
        said = re.search("<<(.*?)>>", str(error))
        if said is None:
            raise
        raise ValueError(said.group(1)) from None
