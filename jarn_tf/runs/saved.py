"""Classifiers from files."""

from __future__ import annotations

import os
import pathlib
import re
import textwrap
import zipfile
from contextlib import AbstractContextManager

import keras
import tensorflow as tf

from jarn_tf import checks
from jarn_tf.arguments import SIZED
from jarn_tf.classifiers import as_classifier
from jarn_tf.defense import Defense
from jarn_tf.files import unpacked_size
from jarn_tf.precision import with_inner

#: Bytes that a model may take for each of its file, and in any case. Keras writes each weight and
#: does not compress, so a model takes hardly more than its file.
_MOST_A_BYTE = 10
_ANYWAY = 2**26


def load_classifier(path: str | os.PathLike) -> keras.Model:
    """A saved classifier, or that of a saved `Defense`. ValueError if it cannot be loaded."""
    path = pathlib.Path(path).expanduser()
    try:
        with _bounded(path):
            model = keras.models.load_model(path, compile=False)
    except Exception as error:  # Keras raises many kinds for a file that is no model
        raise ValueError(f"{path} cannot be loaded as a Keras model: {_reason(error)}") from None
    return model.classifier if isinstance(model, Defense) else model


def _reason(error: Exception) -> str:
    own = re.search("Could not locate class '(.*?)'", str(error))
    if own:
        return f"it needs the class {own[1]}. Import what defines it; the commands have --import."
    if "safe_mode" in str(error):
        return (
            "it holds Python code (a Lambda layer), which would run. If you trust it, import a "
            "module that calls keras.config.enable_unsafe_deserialization(); the commands have "
            "--import."
        )
    return textwrap.shorten(str(error), 500)  # it may repeat the whole file


def modules_of(classifier: keras.Model) -> list[str]:
    """Modules beyond Keras and this package whose classes a classifier is made of."""
    modules = {type(layer).__module__ for layer in with_inner(classifier)}
    return sorted(m for m in modules if m.partition(".")[0] not in ("keras", "jarn_tf", "__main__"))


def classifier_for_dataset(
    model: keras.Model,
    dataset: str,
    image_shape: tuple[int, int, int],
    classes: int,
    pixel_scale: float = 1.0,
    probabilities: bool = False,
) -> keras.Model:
    """A model as a classifier of a dataset's images; the rest as in `as_classifier`.

    Raises:
        ValueError: It does not fit them, or `as_classifier` refuses it.
    """
    known = checks.input_shape(model) or ()
    told = None if len(known) == 4 and None not in known[1:] else image_shape
    classifier = as_classifier(model, pixel_scale, probabilities, told)
    refuse_other_shape(classifier, dataset, image_shape, classes)
    return classifier


def _bounded(path: pathlib.Path) -> AbstractContextManager:
    """A scope to load a model from a file in.

    Raises:
        ValueError: The path is no file, the archive unpacks to more than a model may take, or the
            model's variables would; before they take it.
    """
    if path.is_dir():
        raise ValueError("it is a folder. Give the file that model.save wrote")
    if not path.is_file():
        raise ValueError("there is no such file")
    if path.suffix == ".keras" and not zipfile.is_zipfile(path):
        raise ValueError("it is damaged. The training command of a run writes it anew")
    most = max(_MOST_A_BYTE * path.stat().st_size, _ANYWAY)

    def refuse_more(nbytes: int) -> None:
        if nbytes > most:
            raise ValueError(
                f"it would take {nbytes:,} bytes; a file of its size may take {most:,}"
            )

    if zipfile.is_zipfile(path):
        refuse_more(unpacked_size(path))
    taken = 0

    def create(make, **options):
        nonlocal taken
        if callable(options["initial_value"]):  # traced, it says its shape and takes no memory
            value = tf.function(options["initial_value"]).get_concrete_function().structured_outputs
            taken += value.shape.num_elements() * value.dtype.size
        refuse_more(taken)
        return make(**options)

    return tf.variable_creator_scope(create)


def refuse_other_shape(
    classifier: keras.Model, dataset: str, image_shape: tuple[int, int, int], classes: int
) -> None:
    """Raises ValueError unless a classifier has a dataset's image shape and classes."""
    checks.classifier(classifier)
    shape = checks.input_shape(classifier)[1:], checks.classes(classifier)
    if shape != (image_shape, classes):
        raise ValueError(
            f"The classifier does not fit {dataset}, which has images {image_shape} of "
            f"{classes} classes. Received a classifier of images {shape[0]} with "
            f"{shape[1]} classes.{_way_out(dataset, shape[0], image_shape)}"
        )


def _way_out(dataset: str, wanted: tuple, image_shape: tuple[int, int, int]) -> str:
    """What brings images of a dataset to a shape, if there is something."""
    height, width, channels = image_shape
    if wanted == (channels, height, width):
        return " Its channels come first: put keras.layers.Permute((3, 1, 2)) before it."
    sized = dataset.partition(":")[0] in SIZED and wanted == (wanted[0], wanted[0], channels)
    return f" Give --image_size={wanted[0]}." if sized else ""
