"""Accuracy under attack during training, and the classifier of the epoch that is best at it."""

from __future__ import annotations

import math
import os
import pathlib
import warnings
from collections.abc import Sequence

import keras
import numpy as np

from jarn_tf import arguments
from jarn_tf.callbacks.classifier import watched_classifier
from jarn_tf.evaluation import Attack, PixelScaleWarning, robustness
from jarn_tf.files import read_json, write_atomically, write_json


class RobustAccuracy(keras.callbacks.Callback):
    """Adds `val_robust_accuracy`, the accuracy under an attack, to the logs.

    Put it before callbacks that read the logs.

    With `keep_best` it also keeps the classifier of the epoch that is best at it; of two as good,
    the first. The last epoch need not be the best one: adversarial training overfits (Rice et
    al., 2020). `FILE.json` beside `FILE.keras` says the epoch, counted from 0, its accuracy and
    the attack. A later `fit` reads it and writes over the file only what is better, so resumed
    training keeps the classifier that unbroken training would.

    Args:
        images: Float images [n, height, width, channels] in [0, 1], not trained on.
        labels: Integer labels [n] or [n, 1], or one-hot rows.
        attack: The attack.
        every: Epochs between two evaluations.
        keep_best: `.keras` file for the best classifier; None keeps none.

    Raises:
        ValueError: A value out of range; in `fit`, a file there that was best under another attack.
    """

    def __init__(
        self,
        images: np.ndarray,
        labels: np.ndarray,
        attack: Attack,
        every: int = 1,
        keep_best: str | os.PathLike | None = None,
    ):
        super().__init__()
        arguments.whole("every", every)
        self.images = images
        self.labels = labels
        self.attack = attack
        self.every = every
        self.keep_best = None if keep_best is None else pathlib.Path(keep_best)
        if self.keep_best is not None and self.keep_best.suffix != ".keras":
            raise ValueError(f"keep_best must be a .keras file. Received: {str(keep_best)!r}.")

    def on_train_begin(self, logs=None):
        if self.keep_best is not None:
            self.keep_best.parent.mkdir(parents=True, exist_ok=True)
            self._best = self._accuracy_of_kept()

    def on_epoch_end(self, epoch, logs=None):
        if logs is None or (epoch + 1) % self.every:
            return
        (accuracy,) = self.accuracies([self.attack])
        logs["val_robust_accuracy"] = accuracy
        if self.keep_best is not None and accuracy > self._best:
            self._keep(epoch, accuracy)

    def accuracies(self, attacks: Sequence[Attack]) -> list[float]:
        """Shares of the images that the classifier is right about under each attack."""
        with warnings.catch_warnings():
            # A classifier that has just begun to learn can be better at images times 255.
            warnings.simplefilter("ignore", PixelScaleWarning)
            rows = robustness(
                watched_classifier(self.model), self.images, self.labels, attacks, progress=False
            )
        return [row["accuracy"] for row in rows[: len(attacks)]]

    def _keep(self, epoch: int, accuracy: float) -> None:
        # The classifier first: stopped between the two files, training finds a lower accuracy
        # there when it resumes before this epoch, and keeps the epoch again.
        write_atomically(self.keep_best, watched_classifier(self.model).save)
        note = {"epoch": epoch, "val_robust_accuracy": accuracy} | self._attack()
        write_json(self.keep_best.with_suffix(".json"), note)
        self._best = accuracy

    def _accuracy_of_kept(self) -> float:
        """Robust accuracy of the classifier in the file; less than any where there is none."""
        path = self.keep_best.with_suffix(".json")
        if not (path.exists() and self.keep_best.exists()):
            return -math.inf
        try:
            note = {"norm": "linf"} | dict(read_json(path))
            accuracy = float(note["val_robust_accuracy"])
        except (KeyError, TypeError, ValueError):
            raise ValueError(
                f"{path} cannot be read. Delete it, or name another file to keep."
            ) from None
        if not note.items() >= self._attack().items():
            raise ValueError(
                f"{self.keep_best} is the best classifier under another attack: "
                f"{note.get('attack')} at {note.get('epsilon')}, now {self.attack.name} at "
                f"{self.attack.epsilon}; norm {note['norm']}, now {self.attack.norm}. Name another "
                "file to keep."
            )
        return accuracy

    def _attack(self) -> dict:
        of = self.attack
        return {"attack": of.name, "epsilon": of.epsilon, "norm": of.norm}
