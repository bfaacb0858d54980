"""Classifiers from files."""

from __future__ import annotations

import os
import pathlib
import re

import keras

from jarn_tf import checks
from jarn_tf.classifiers import as_classifier
from jarn_tf.defense import Defense


def load_classifier(path: str | os.PathLike) -> keras.Model:
    """A saved classifier, or that of a saved `Defense`. ValueError if it cannot be loaded."""
    try:
        model = keras.models.load_model(pathlib.Path(path).expanduser(), compile=False)
    except Exception as error:  # Keras raises many kinds for a file that is no model
        own = re.search("Could not locate class '(.*?)'", str(error))
        said = (
            f"it needs the class {own[1]}. Import what defines it; the commands have --import."
            if own
            else error
        )
        raise ValueError(f"{path} cannot be loaded as a Keras model: {said}") from None
    return model.classifier if isinstance(model, Defense) else model


def classifier_of(
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
            f"{shape[1]} classes."
        )
