"""The folder of a run: the names of its files, what it is of, its checkpoints."""

from __future__ import annotations

import contextlib
import csv
import dataclasses
import fcntl
import os
import pathlib
import sys
from collections.abc import Iterator
from typing import Any

import keras
import numpy as np
import tensorflow as tf

import jarn_tf
from jarn_tf import differences
from jarn_tf.files import read_json, write_json
from jarn_tf.runs.config import NO_EFFECT, Config, defaults

#: Folders that training and evaluating make in the folder of a run.
_WRITTEN_INTO = (
    "adversarial", "checkpoints", "figures", "test", "train", "validation",
)  # fmt: skip


@dataclasses.dataclass(frozen=True)
class Workdir:
    """The folder of a run; it need not exist.

    Attributes:
        path: The folder. Beside the files below it holds `train/`, `validation/` and `test/`
            (TensorBoard), `evaluation.json` and what `runs.evaluating` writes.
    """

    path: pathlib.Path

    @property
    def config(self) -> pathlib.Path:
        """Every setting, steps of the whole run, digest of its dataset, versions it began with."""
        return self.path / "config.json"

    @property
    def history(self) -> pathlib.Path:
        return self.path / "history.csv"

    @property
    def checkpoints(self) -> pathlib.Path:
        return self.path / "checkpoints"

    @property
    def model(self) -> pathlib.Path:
        """All networks with their optimizers."""
        return self.path / "model.keras"

    @property
    def classifier(self) -> pathlib.Path:
        """The classifier alone; it is there once the run is finished."""
        return self.path / "classifier.keras"

    @property
    def best_robust_classifier(self) -> pathlib.Path:
        return self.path / "best_robust_classifier.keras"

    @property
    def classifier_before(self) -> pathlib.Path:
        """With `init_from`: the classifier before it was trained on, so that its file may go."""
        return self.path / "before.keras"

    @property
    def before(self) -> pathlib.Path:
        """With `init_from`: the evaluation of the classifier before it was trained on."""
        return self.path / "before.json"

    @property
    def cost(self) -> pathlib.Path:
        """CPU minutes of the training, where that was not interrupted."""
        return self.path / "cpu_minutes.json"

    @property
    def jacobians(self) -> pathlib.Path:
        return self.path / "figures" / "jacobians.png"

    @property
    def attacked(self) -> pathlib.Path:
        """Of the newest evaluation by `runs.evaluating`, as `adversarial` is."""
        return self.path / "figures" / "attacked.png"

    @property
    def verdict(self) -> pathlib.Path:
        return self.path / "figures" / "verdict.png"

    @property
    def adversarial(self) -> pathlib.Path:
        """Folder of what `evaluation.robustness` saves."""
        return self.path / "adversarial"

    def settings(self) -> dict[str, Any]:
        """The settings in `config.json`, nested ones joined by a dot.

        A run made before a setting existed has the setting's default.

        Raises:
            ValueError: There is no `config.json`, or it cannot be read.
        """
        try:
            there = defaults() | dict(read_json(self.config)["config"])
        except (OSError, KeyError, TypeError, ValueError) as error:
            raise ValueError(
                f"{self.path} holds no readable run ({error}). Name the --workdir of a run."
            ) from None
        if there.get("training_epsilon") is None:  # which once meant the radius of the evaluation
            there["training_epsilon"] = there.get("epsilon")
        return there

    def epochs(self) -> list[dict[str, float]]:
        """The rows of `history.csv`, without the columns that an epoch has no value in."""
        with open(self.history, newline="") as file:
            return [
                {name: float(value) for name, value in row.items() if value}
                for row in csv.DictReader(file)
            ]

    def steps(self) -> int:
        """Steps of the whole run; 0 where `config.json` does not say."""
        try:
            steps = read_json(self.config)["steps"]
        except (OSError, KeyError, TypeError, ValueError):
            return 0
        return steps if isinstance(steps, int) and 0 <= steps < 2**63 else 0  # as TensorBoard's

    def cpu_minutes(self) -> float | None:
        """CPU minutes of the training; None where it was interrupted, or is of before they were."""
        try:
            return float(read_json(self.cost)["cpu_minutes"])
        except (OSError, KeyError, TypeError, ValueError):
            return None

    def write_config(self, config: Config, steps: int, digest: str) -> None:
        """Makes the folder and says in it what it is of, unless that is said."""
        self.path.mkdir(parents=True, exist_ok=True)
        if not self.config.exists():
            content = {"config": config.as_dict(), "steps": steps, "data": digest}
            write_json(self.config, content | {"versions": versions()})

    def refuse_other_config(self, config: Config) -> None:
        """Raises ValueError if the folder holds a run of another configuration."""
        if not self.config.exists():
            if self.checkpoints.exists():
                raise ValueError(
                    f"{self.path} holds checkpoints but no config.json to say of what. Name "
                    "another --workdir."
                )
            return
        there, here = self.settings(), config.as_dict()
        there |= {name: here[name] for name in NO_EFFECT}
        if changed := differences.in_words(there, here):
            raise ValueError(
                f"{self.path} holds a run of another configuration. Different: "
                f"{changed}. Name another --workdir, where --init_from="
                f"{self.classifier} goes on with its classifier, or the settings of that run."
            )

    def refuse_other_data(self, dataset: str, digest: str) -> None:
        """Raises ValueError if the folder holds a run of other images or labels.

        A run made before digests were noted is taken to be of these.
        """
        if not self.config.exists():
            return
        there = read_json(self.config).get("data", digest)
        if there != digest:
            raise ValueError(
                f"{self.path} holds a run of {dataset} with other images or labels (SHA-256 there "
                f"{there[:12]}, now {digest[:12]}). Name another --workdir, or bring back the "
                "dataset of that run."
            )


def refuse_unwritable(folder: pathlib.Path) -> None:
    """Finds out before the work, without writing, whether the folder can be written.

    Raises:
        PermissionError: It cannot.
        ValueError: A folder in it is a link, so that files outside would be written and deleted.
    """
    for name in _WRITTEN_INTO:
        if (folder / name).is_symlink():
            raise ValueError(
                f"{folder / name} is a link, and what is written there would not stay in {folder}. "
                "Put a folder in its place, or name another folder."
            )
    existing = folder
    while not existing.exists():
        existing = existing.parent
    if not existing.is_dir() or not os.access(existing, os.W_OK | os.X_OK):
        raise PermissionError(
            f"{folder} cannot be written: {existing} is no folder that this user can write to. "
            "Name another folder."
        )


@contextlib.contextmanager
def locked(folder: pathlib.Path) -> Iterator[None]:
    """Keeps a folder to one process; it is made if missing.

    The system gives the lock free when the process ends, however it does, of a network folder (NFS)
    when the other host is gone.

    Raises:
        PermissionError: The folder cannot be written.
        ValueError: Another process has it.
    """
    refuse_unwritable(folder)
    folder.mkdir(parents=True, exist_ok=True)
    with open(folder / ".lock", "a") as file:  # "w" would empty what a link names
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise ValueError(
                f"Another process works in {folder}. Wait for it, or name another folder."
            ) from None
        yield


def versions() -> dict[str, str]:
    """Versions of what a result depends on."""
    return {
        "jarn_tf": jarn_tf.__version__,
        "python": sys.version.split()[0],
        "tensorflow": tf.__version__,
        "keras": keras.__version__,
        "numpy": np.__version__,
    }
