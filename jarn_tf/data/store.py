"""Where images lie: in memory while they fit, else in a file."""

from __future__ import annotations

import math
import shutil
import sys
import tempfile
from collections.abc import Iterable

import numpy as np
import psutil

from jarn_tf.data.split import Split

_READ_AT_ONCE = 2**26


class Store:
    """Takes in all splits of a dataset.

    Args:
        nbytes: Bytes that all images take together.
        memory_share: Share of the free memory that they may take, in [0, 1]. Where they take more
            they go to a nameless file in the folder for temporary files (the variable `TMPDIR`),
            which ends with the process; batches are then read from there.

    Raises:
        OSError: The file would not fit on its disk.
    """

    def __init__(self, nbytes: int, memory_share: float):
        free = psutil.virtual_memory().available
        self.on_disk = nbytes > memory_share * free
        if not self.on_disk:
            return
        folder = tempfile.gettempdir()
        room = shutil.disk_usage(folder).free
        size, free, room = (f"{count / 2**30:.1f} GiB" for count in (nbytes, free, room))
        if nbytes > shutil.disk_usage(folder).free:
            raise OSError(
                f"The images take {size}, which is more than a share of {memory_share:g} of the "
                f"free memory ({free}) and more than {folder} has room for ({room}). Name another "
                "folder by TMPDIR, or take smaller images by --image_size."
            )
        print(
            f"The images take {size} of {free} of free memory; they are streamed from {folder}.",
            file=sys.stderr,
        )

    def split(
        self,
        batches: Iterable[tuple[np.ndarray, np.ndarray]],
        count: int,
        image_shape: tuple[int, int, int],
        order: np.ndarray | None = None,
    ) -> Split:
        """The examples of batches (images uint8, labels) as one split.

        Args:
            batches: At most `count` examples.
            count: How many there are.
            image_shape: (height, width, channels).
            order: The place of each example; as they come unless told.
        """
        shape = (count, *image_shape)
        if self.on_disk:
            file = tempfile.TemporaryFile()  # noqa: SIM115  the map keeps it open
            file.truncate(math.prod(shape))
            images = np.memmap(file, np.uint8, "r+", shape=shape)
        else:
            images = np.empty(shape, np.uint8)
        labels, taken = np.empty(count, np.int32), 0
        for some_images, some_labels in batches:
            places = slice(taken, taken + len(some_labels))
            places = places if order is None else order[places]
            images[places], labels[places] = some_images, some_labels
            taken += len(some_labels)
        return Split(images, labels).first(taken)


def at_once(nbytes: int) -> int:
    """How many images of so many bytes each to read before they are stored."""
    return max(1, min(256, _READ_AT_ONCE // nbytes))


def shuffled(count: int) -> np.ndarray:
    """A fixed random place for each of so many examples, for sources sorted by class."""
    return np.random.default_rng(0).permutation(count)
