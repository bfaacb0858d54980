"""Finished parts of a long computation on disk, so that it can be interrupted and continued."""

from __future__ import annotations

import io
import json
import os
import pathlib
import shutil
import textwrap
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from jarn_tf import differences
from jarn_tf.batches import slices
from jarn_tf.files import read_json, unpacked_size, write_atomically, write_json
from jarn_tf.workers import Workers


class Part(NamedTuple):
    """A piece of a long computation.

    Attributes:
        name: That of its file.
        kinds: Names of its arrays to their shapes and types.
        compute: Makes them.
    """

    name: str
    kinds: Mapping[str, tuple[tuple[int, ...], str]]
    compute: Callable[[], dict[str, np.ndarray]]


class Parts:
    """Finished parts, bound to what they are parts of.

    Args:
        folder: Where the parts are kept; made with the first of them. None keeps nothing.
        identity: What the computation depends on, as JSON values.
        workers: What `each` divides the parts over. All of them read the folder, the first writes.

    Raises:
        ValueError: The folder holds parts of a computation of another identity.
    """

    def __init__(
        self,
        folder: str | os.PathLike | None,
        identity: dict[str, Any],
        workers: Workers | None = None,
    ):
        self.workers = workers or Workers()
        self.folder = None if folder is None else pathlib.Path(folder)
        self.identity = json.loads(json.dumps(identity))
        if self.folder is not None and self.folder.is_symlink():  # `discard` empties the folder
            raise ValueError(f"{self.folder} is a link. Name a folder.")
        if self.folder is not None and self.folder.exists() and not self.folder.is_dir():
            raise ValueError(f"{self.folder} is a file. Name a folder.")
        if self.folder is None or not any(self.folder.glob("*.npz")):
            return
        try:
            there = dict(read_json(self.folder / "identity.json"))
        except (OSError, TypeError, ValueError):
            there = {}
        if changed := differences.in_words(there, self.identity):
            raise ValueError(
                f"{self.folder} holds the unfinished evaluation of something else. Different: "
                f"{changed}. Run that evaluation to its end, or delete the folder."
            )

    def part(self, part: Part) -> dict[str, np.ndarray]:
        """The arrays of a part: read if it is finished and readable, else computed and kept."""
        path = self._path(part)
        if path and path.exists():
            try:
                return _read(path, part.kinds)
            except Exception as error:  # zipfile, zlib and NumPy raise many kinds for damage
                reason = textwrap.shorten(str(error), 200)
                print(f"{path} cannot be read ({reason}); computing it again.")
        arrays = part.compute()
        if path:
            self._keep(path, _packed(arrays))
        return arrays

    def each(self, parts: Sequence[Part]) -> Iterator[dict[str, np.ndarray]]:
        """The arrays of several parts, in their order.

        Each worker computes one of as many as there are workers, and all get the arrays of all.
        """
        for some in slices(len(parts), self.workers.count):
            of_this_worker = parts[some][self.workers.index :][:1]
            computed = b"".join(_packed(self.part(part)) for part in of_this_worker)
            for part, packed in zip(parts[some], self.workers.gather(computed)):
                path = self._path(part)
                if path and not path.exists():  # another worker's
                    self._keep(path, packed)
                yield _unpacked(io.BytesIO(packed))

    def _path(self, part: Part) -> pathlib.Path | None:
        return self.folder and self.folder / f"{part.name}.npz"

    def _keep(self, path: pathlib.Path, packed: bytes) -> None:
        if not self.workers.first:
            return
        path.parent.mkdir(parents=True, exist_ok=True)
        if not any(path.parent.glob("*.npz")):
            write_json(path.parent / "identity.json", self.identity)
        write_atomically(path, lambda temporary: temporary.write_bytes(packed))

    def discard(self) -> None:
        """Removes the folder, once the whole is kept elsewhere."""
        if self.folder is None:
            return
        for part in self.folder.rglob("*.npz"):  # first: without parts the rest binds nobody
            part.unlink()
        shutil.rmtree(self.folder, ignore_errors=True)


def _read(path: pathlib.Path, kinds: Mapping[str, tuple]) -> dict[str, np.ndarray]:
    if not path.is_file():
        raise ValueError("it is no file")
    if unpacked_size(path) > path.stat().st_size:  # parts are written uncompressed
        raise ValueError("it unpacks to more than it has")
    arrays = _unpacked(path)
    if {name: (array.shape, array.dtype.name) for name, array in arrays.items()} != {**kinds}:
        raise ValueError("its arrays are others")
    return arrays


def _packed(arrays: dict[str, np.ndarray]) -> bytes:
    file = io.BytesIO()
    np.savez(file, **arrays)
    return file.getvalue()


def _unpacked(file: pathlib.Path | io.BytesIO) -> dict[str, np.ndarray]:
    with np.load(file, allow_pickle=False) as found:
        return dict(found)
