"""What attacks made of the test images, from `adversarial/`: pictures, and accuracy by class."""

from __future__ import annotations

import io
import pathlib
import zipfile
from typing import NamedTuple

import keras
import numpy as np

from jarn_tf import data, evaluation, input_jacobian
from jarn_tf.evaluation import signed_to_pixels
from jarn_tf.inference import logits_of_all
from jarn_tf.runs.radius import title_of_file

#: Images of the figure.
_SHOWN = 10
#: Bytes that an array beside the images may take: those of 2 million images.
_MOST = 2**28
#: Classes that are told apart: a page has a row of each.
_MOST_CLASSES = 1000


class OfClass(NamedTuple):
    """The images of a class: how many, the share classified right, and that under attacks.

    `attacked` has a share for each file of `adversarial/`, by its radius.
    """

    label: int
    examples: int
    clean: float
    attacked: dict[str, float]


def draw(
    path: pathlib.Path,
    adversarial: pathlib.Path,
    classifier: keras.Model,
    test: data.Split,
    title: str,
) -> None:
    """Draws the first images that are classified right, and what attacks made of them.

    Args:
        path: PNG to write: the images, the Jacobians of the loss, and for each radius the attacked
            images with the class that they are taken for, and the differences.
        adversarial: Folder that `evaluation.robustness` saved to.
        classifier: What was attacked.
        test: The images that were attacked.
        title: First line above the figure.
    """
    saved = {}
    for file in sorted(adversarial.glob("*.npz")):
        with np.load(file) as found:
            saved[title_of_file(file)] = found["images"], found["broken_by"]
    right = [broken_by != "clean" for _, broken_by in saved.values()]
    shown = np.flatnonzero(right[0] if right and right[0].any() else np.ones(len(test)))[:_SHOWN]
    images, labels = test.first(shown[-1] + 1).floats[shown], test.labels[shown]
    jacobians = input_jacobian(classifier, images, labels).numpy()
    rows, notes = {"image": images, "Jacobian\nof the loss": signed_to_pixels(jacobians)}, {}
    for name, (attacked, _) in saved.items():
        attacked = attacked[shown]
        changed = attacked - images
        largest = np.abs(changed).max(axis=(1, 2, 3), keepdims=True)
        rows[f"attacked,\n{name}"] = attacked
        rows[f"difference,\n{name}"] = 0.5 + changed / np.where(largest > 0, 2 * largest, 1)
        predicted = np.argmax(logits_of_all(classifier, attacked), axis=-1)
        notes[f"attacked,\n{name}"] = [
            "withstands" if now == label else f"taken for {now}"
            for now, label in zip(predicted, labels)
        ]
    caption = "In Jacobians and differences grey is 0; black and white are the largest changes."
    evaluation.jacobian_figure(path, rows, labels, f"{title}\n{caption}", notes)


def by_class(adversarial: pathlib.Path) -> list[OfClass]:
    """Accuracy of each class, clean and under all attacks of each radius.

    Args:
        adversarial: Folder that `evaluation.robustness` saved to; it may be a stranger's.

    Raises:
        ValueError: A file in it cannot be read.
    """
    found: dict[int, OfClass] = {}
    for file in sorted(adversarial.glob("*.npz")):
        try:
            labels, right, broken_by = _read(file, "labels", "right", "broken_by")
            names, of, counts = np.unique(labels, return_inverse=True, return_counts=True)
            if (classes := len({*found, *names.tolist()})) > _MOST_CLASSES:
                raise ValueError(f"it has {classes} classes, of at most {_MOST_CLASSES}")
            clean, left = (
                (np.bincount(of, weights=kept) / counts).tolist()
                for kept in (broken_by != "clean", right)
            )
            for i, (name, count) in enumerate(zip(names.tolist(), counts.tolist())):
                kept = found.setdefault(name, OfClass(name, count, clean[i], {}))
                kept.attacked[title_of_file(file)] = left[i]
        except Exception as error:  # zipfile, zlib and NumPy raise many kinds for damage
            raise ValueError(f"{file} cannot be read ({error})") from None
    return list(found.values())


def _read(file: pathlib.Path, *names: str) -> list[np.ndarray]:
    if not file.is_file():
        raise ValueError("it is no file")
    arrays = []
    with zipfile.ZipFile(file) as archive:
        for name in names:
            if archive.getinfo(f"{name}.npy").file_size > _MOST:
                raise ValueError(f"{name} takes more than {_MOST >> 20} MiB")
            content = io.BytesIO(archive.read(f"{name}.npy"))
            arrays.append(np.load(content, allow_pickle=False))
    return arrays
