"""Accuracy on clean and on adversarial images, every image counted once."""

from __future__ import annotations

import dataclasses
import functools
import pathlib
import time
from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
import tqdm

from jarn_tf import checks
from jarn_tf.attacks.autoattack import unchanged
from jarn_tf.batches import slices
from jarn_tf.evaluation import pixel_scale
from jarn_tf.evaluation.attack import Attack
from jarn_tf.evaluation.interval import accuracy_interval
from jarn_tf.files import write_atomically
from jarn_tf.inference import logits_of_all
from jarn_tf.labels import as_integers
from jarn_tf.resume import Part, Parts


def robustness(
    classifier: keras.Model,
    images: np.ndarray,
    labels: np.ndarray,
    list_of_attacks: Sequence[Attack],
    batch_size: int = 500,
    progress: bool = True,
    parts: Parts | None = None,
    save_to: pathlib.Path | None = None,
) -> list[dict]:
    """Accuracy under each attack, and the worst case over all attacks of one radius.

    Args:
        classifier: Keras model from images in [0, 1] to logits; run in inference mode.
        images: Images [n, height, width, channels], floating point in [0, 1] or `uint8`.
        labels: Integer labels [n] or [n, 1], or one-hot rows.
        list_of_attacks: The attacks, in order. Random numbers are drawn for parts of 500 images.
        batch_size: Images attacked at once, at most 500. Memory depends on it; the accuracies do
            not, but by rounding.
        progress: Whether to draw a progress bar with a time estimate on a terminal.
        parts: Keeps what is done, so that the same call continues an interrupted one.
        save_to: Folder of a file `epsilon_E.npz` for each radius, in L2 `epsilon_E_l2.npz`:
            `images`, for each image the
            first misclassified one that an attack found, else the image itself; `labels`; `right`,
            whether it withstands every attack; `broken_by`, the name of the attack that broke it
            first, `"clean"` where it was misclassified before, `""` where it withstands.

    Returns:
        One row for each attack: its name, epsilon, norm, steps, restarts and settings, `accuracy`
        (0 to 1), the share of images still classified right, its 95 % `interval`, the number of
        images, `examples`, and `seconds`. Where several attacks share a radius, a row `worst_case`
        follows: right without an attack and under every one.

    Raises:
        ValueError: Bad images, labels or logits.

    Warns:
        PixelScaleWarning: The classifier seems to expect pixels up to 255.
    """
    images, labels = checks.batches(classifier, images, labels, batch_size)
    pixel_scale.warn(classifier, images, labels)
    labels = as_integers(labels)
    parts = parts or Parts(None, {})
    rows: list[dict] = []
    worst: dict[tuple[str, float], _WorstCase] = {}
    clean = np.concatenate(
        [_right(classifier, images[part], labels[part], batch_size) for part in slices(len(images))]
    )
    for number, attack in enumerate(list_of_attacks):
        ball = attack.norm, attack.epsilon
        if ball not in worst:
            worst[ball] = _WorstCase(clean, images if save_to else None)
        right, seconds = _attacked(
            classifier, images, labels, attack, batch_size, progress, parts, number,
            worst[ball],
        )  # fmt: skip
        row = attack.row(checks.classes(classifier))
        rows.append(row | _outcome(right, seconds))
    if save_to:
        _save(worst, labels, save_to)
    same = {ball: [row for row in rows if (row["norm"], row["epsilon"]) == ball] for ball in worst}
    return rows + [worst[ball].row(of) for ball, of in same.items() if len(of) > 1]


def _save(
    worst: dict[tuple[str, float], _WorstCase], labels: np.ndarray, folder: pathlib.Path
) -> None:
    """The worst case of each radius, in place of what the folder holds of an evaluation before."""
    for old in folder.glob("epsilon_*.npz"):
        old.unlink()
    for (norm, radius), case in worst.items():
        if radius:
            suffix = "" if norm == "linf" else f"_{norm}"
            case.save(folder / f"epsilon_{radius!r}{suffix}.npz", labels)


def _attacked(
    classifier: keras.Model,
    images: np.ndarray,
    labels: np.ndarray,
    attack: Attack,
    batch_size: int,
    progress: bool,
    parts: Parts,
    number: int,
    worst: _WorstCase,
) -> tuple[np.ndarray, float]:
    """Which images are still classified right [n], and the seconds taken; counted into `worst`."""
    right = np.empty(len(images), bool)
    seconds = 0.0
    of_500 = []
    for rows in slices(len(images)):
        name = f"{number}_{attack.name}_{rows.start}"
        kinds = {
            "images": (images[rows].shape, "float32"),
            "right": (right[rows].shape, "bool"),
            "seconds": ((), "float64"),
        }
        compute = functools.partial(
            _attacked_part,
            dataclasses.replace(attack, seed=attack.seed + rows.start),
            classifier,
            images[rows],
            labels[rows],
            batch_size=batch_size,
            progress=progress,
            state=parts.folder and parts.folder / name,
        )
        of_500.append(Part(name, kinds, compute))
    shown = f"{attack.name} eps={attack.epsilon:.4g}" if attack.steps else attack.name
    with tqdm.tqdm(total=len(images), desc=shown, disable=None if progress else True) as bar:
        for rows, found in zip(slices(len(images)), parts.each(of_500)):
            right[rows] = found["right"]
            worst.add(attack.name, rows, found["images"], found["right"])
            seconds += float(found["seconds"])
            bar.update(len(found["right"]))
    return right, seconds


def _attacked_part(
    attack: Attack,
    classifier: keras.Model,
    images: np.ndarray,
    labels: np.ndarray,
    batch_size: int,
    **options: Any,
) -> dict[str, np.ndarray]:
    started = time.perf_counter()
    found = attack(
        classifier, images, labels, stop_when_misclassified=True, batch_size=batch_size, **options
    )
    right = _right(classifier, found, labels, batch_size)
    if attack.name == "autoattack":
        right &= unchanged(found, checks.floats(images).numpy())
    seconds = np.float64(time.perf_counter() - started)
    return {"images": found, "right": right, "seconds": seconds}


def _right(
    classifier: keras.Model, images: np.ndarray, labels: np.ndarray, batch_size: int
) -> np.ndarray:
    """Which images are classified right [n]."""
    logits = logits_of_all(classifier, checks.floats(images).numpy(), batch_size)
    return np.argmax(logits, axis=-1) == labels


def _outcome(right: np.ndarray, seconds: float) -> dict:
    """What a row says of the images that are still classified right."""
    accuracy = float(right.mean())
    return {
        "accuracy": accuracy,
        "interval": list(accuracy_interval(accuracy, len(right))),
        "examples": len(right),
        "seconds": round(seconds, 2),
    }


class _WorstCase:
    """What the attacks of one radius did to each image."""

    def __init__(self, right: np.ndarray, images: np.ndarray | None):
        self.right = right.copy()
        self.images = None if images is None else checks.floats(images).numpy()  # to be saved
        self.broken_by = np.where(right, "", "clean").astype("U32")

    def add(self, name: str, rows: slice, images: np.ndarray, right: np.ndarray) -> None:
        broken = self.right[rows] & ~right
        if self.images is not None:
            self.images[rows][broken] = images[broken]
        self.broken_by[rows][broken] = name
        self.right[rows] &= right

    def row(self, same: Sequence[dict]) -> dict:
        """The row `worst_case` below the rows of the attacks of one radius."""
        return {
            "name": "worst_case",
            "epsilon": same[0]["epsilon"],
            "norm": same[0]["norm"],
            "steps": max(row["steps"] for row in same),
            "restarts": max(row["restarts"] for row in same),
            **_outcome(self.right, sum(row["seconds"] for row in same)),
        }

    def save(self, path: pathlib.Path, labels: np.ndarray) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        content = vars(self) | {"labels": labels}
        write_atomically(path, lambda temporary: np.savez_compressed(temporary, **content))


def only_class(classifier: keras.Model, images: np.ndarray, batch_size: int = 500) -> int | None:
    """The class that a collapsed classifier gives every image; None if it tells any two apart.

    Args:
        classifier: Keras model from images in [0, 1] to logits; run in inference mode.
        images: Float images [n, height, width, channels] in [0, 1], of several classes.
        batch_size: Images at a time.
    """
    found = np.unique(np.argmax(logits_of_all(classifier, images, batch_size), axis=-1))
    return int(found[0]) if len(found) == 1 else None
