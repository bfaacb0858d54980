"""The checkpoints of a training: its variables, and what TensorFlow does not save of it."""

from __future__ import annotations

import contextlib
import json
import os
import pathlib
import re
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from typing import Any

import keras
import tensorflow as tf

from jarn_tf.defense import Defense
from jarn_tf.workers import WORKER_GONE


class Checkpoints:
    """A folder of the two newest checkpoints of a model; the newest that is whole is restored.

    Args:
        folder: Where they are. Of several workers, which all have to save, the first owns it.
        model: A compiled `Defense`.

    Attributes:
        progress: JSON values that the restored one was saved with; empty without one.

    Raises:
        ValueError: None of those in the folder can be read or is of this model, or its list names
            others.
    """

    def __init__(self, folder: str | os.PathLike, model: Defense):
        folder = pathlib.Path(folder)
        _refuse_others(folder)
        self._model = model
        self._progress = _Progress()
        self._checkpoint = tf.train.Checkpoint(model=model, progress=self._progress)
        found = in_folder(folder)
        self._number = _number(found[0]) if found else 0
        self._restored = next(filter(self._restore, found), None)
        if found and self._restored is None:
            raise ValueError(
                f"None of the checkpoints in {folder} can be read: they are damaged, or of another "
                "model, optimizer or version. Name another folder."
            )
        self.progress = dict(self._progress.values)
        worker = model.distribute_strategy.cluster_resolver
        mine = tempfile.mkdtemp() if worker is not None and worker.task_id else str(folder)
        self._manager = tf.train.CheckpointManager(self._checkpoint, mine, max_to_keep=2)
        self._has_some = pathlib.Path(mine) == folder and bool(found)

    def restore(self) -> None:
        """Gives the model once more the state of the checkpoint that it was given at first."""
        self._checkpoint.restore(str(self._restored))

    def save(self, progress: dict[str, Any]) -> None:
        """Saves the model's state with JSON values of which `epoch` is an integer.

        It is written aside, checksummed and renamed, so a kill leaves the ones before.

        Raises:
            OSError: It cannot be written. The ones before are left as they are.
        """
        model = self._model
        self._progress.values = {**progress, "of": _kind(model), "seeds": values(_seeds(model))}
        self._number += 1
        folder = pathlib.Path(self._manager.directory)
        if self._has_some and not folder.is_dir():  # TensorFlow would make it anew
            raise FileNotFoundError(f"{folder} is gone, so nothing more can be kept of training.")
        try:
            with as_os_error(folder):
                self._manager.save(self._number)
            self._has_some = True
        except OSError:
            for part in folder.glob(f"ckpt-{self._number}*"):
                shutil.rmtree(part) if part.is_dir() else part.unlink()
            raise

    def _restore(self, path: pathlib.Path) -> bool:
        """Whether the checkpoint could be restored."""
        try:
            # First, as a checkpoint of another model is restored as far as it goes.
            said = json.loads(tf.train.load_checkpoint(str(path)).get_tensor(PROGRESS))
            if not (isinstance(said, dict) and isinstance(said.get("epoch"), int)):
                raise ValueError("it does not say its epoch")
            if said.get("of") != _kind(self._model):
                raise ValueError("it is of another model or optimizer")
            self._checkpoint.restore(str(path)).assert_existing_objects_matched()
        # What TensorFlow raises for a damaged, an empty, a lost or a cut file.
        except (tf.errors.OpError, AssertionError, ValueError, IndexError) as error:
            reason = _reason(str(error).splitlines()[0])
            print(f"Checkpoint {path} cannot be read ({reason}); trying the one before.")
            return False
        for seed, value in zip(_seeds(self._model), said.get("seeds", [])):
            seed.assign(value)
        return True


def in_folder(folder: pathlib.Path) -> list[pathlib.Path]:
    """The checkpoints in a folder, newest first, as `tf.train.load_checkpoint` takes them."""
    found = [path.with_suffix("") for path in folder.glob("ckpt-*.index")]
    return sorted(found, key=_number, reverse=True)


def values(variables: Sequence[tf.Variable]) -> list:
    """As JSON values."""
    return [variable.numpy().tolist() for variable in variables]


@contextlib.contextmanager
def as_os_error(path: str | os.PathLike) -> Iterator[None]:
    """Turns what TensorFlow raises where it cannot write into an `OSError` of one line."""
    try:
        yield
    except WORKER_GONE:  # what is saved is read from all workers
        raise
    except tf.errors.OpError as error:
        raise OSError(f"{path} cannot be written: {_reason(error.message)}") from None


def _reason(text: str) -> str:
    """What TensorFlow says, without where in itself it happened."""
    return " ".join(re.sub(r"\{\{.*?\}\}|\[Op:.*?\]", "", text).split())


class _Progress(tf.train.experimental.PythonState):
    """JSON values in a checkpoint."""

    def __init__(self):
        self.values: dict[str, Any] = {}

    def serialize(self) -> str:
        return json.dumps(self.values)

    def deserialize(self, string_value: str) -> None:
        self.values = json.loads(string_value)


#: Where TensorFlow keeps it.
PROGRESS = "progress/.ATTRIBUTES/py_state"


def _refuse_others(folder: pathlib.Path) -> None:
    """Of those that the folder's list names a `CheckpointManager` deletes all but the newest."""
    try:
        state = tf.train.get_checkpoint_state(str(folder))
    except UnicodeDecodeError:  # other damage TensorFlow takes for no list
        (folder / "checkpoint").unlink()
        print(f"The list of checkpoints in {folder} is damaged and is written anew.")
        return
    for path in state.all_model_checkpoint_paths if state else []:
        if not re.fullmatch(re.escape(str(folder)) + r"/ckpt-\d+", path):
            raise ValueError(
                f"{folder / 'checkpoint'} names {path}, which is none of its folder. Name another "
                "folder."
            )


def _kind(model: Defense) -> list:
    """What a checkpoint's model has to have in common with this one."""
    optimizers = [type(getattr(model, name)).__name__ for name in model.OPTIMIZERS]
    shapes = [list(variable.shape) for variable in model.variables]
    return [type(model).__name__, optimizers, shapes]


def _number(path: pathlib.Path) -> int:
    digits = path.name.removeprefix("ckpt-")
    return int(digits) if digits.isdigit() else -1


def _seeds(model: keras.Model) -> list[keras.Variable]:
    """States of the random generators of a model's layers, which `weights` lack."""
    weights = {id(variable) for variable in model.weights}
    return [variable for variable in model.variables if id(variable) not in weights]
