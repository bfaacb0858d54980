"""NumPy archives, as `keras.datasets` come in: `x_train`, `y_train`, `x_test`, `y_test`."""

from __future__ import annotations

import math
import pathlib
import sys
import zipfile
from collections.abc import Iterator
from typing import IO

import numpy as np

from jarn_tf.data import store
from jarn_tf.data.split import Split

_NAMES = ("x_train", "y_train", "x_test", "y_test")
#: Bytes of all labels of a split; they are read at once.
_MOST_LABELS = 2**28


def load(source: str, memory_share: float, test_only: bool) -> tuple[Split, Split, int]:
    """Training split, test split and number of classes of an archive.

    Images [n, height, width] or [n, height, width, channels]: whole numbers in 0..255, or floats
    in [0, 1], which are rounded to 255ths. Labels [n], [n, 1] or one-hot [n, classes].
    """
    path = pathlib.Path(source).expanduser()
    if not path.is_file():
        raise FileNotFoundError(f"There is no file {path}.")
    try:
        return _load(path, memory_share, test_only)
    except (ValueError, OSError):
        raise
    except Exception as error:  # zipfile, zlib and NumPy's parser raise many kinds for damage
        raise ValueError(f"{path} is no NumPy archive, or damaged: {error}.") from None


def _load(path: pathlib.Path, memory_share: float, test_only: bool) -> tuple[Split, Split, int]:
    with zipfile.ZipFile(path) as archive:
        names = [name for name in archive.namelist() if name.endswith(".npy")]
        held = [name.removesuffix(".npy") for name in names]
        missing = [name for name in _NAMES if name not in held]
        if missing:
            raise ValueError(
                f"{path} must hold {', '.join(_NAMES)}. Received: {', '.join(held) or 'nothing'}."
            )
        labels = {part: _labels(path, archive, f"y_{part}") for part in ("train", "test")}
        shapes = {}
        for part, its_labels in labels.items():
            with archive.open(f"x_{part}.npy") as file:
                shapes[part] = _header(path, file, f"x_{part}")[0]
            if (
                len(shapes[part]) not in (3, 4)
                or shapes[part][0] != len(its_labels)
                or min(shapes[part]) < 1
            ):
                raise ValueError(
                    f"x_{part} of {path} must be images [n, height, width, channels], one a label. "
                    f"Received: shape {shapes[part]}, and {len(its_labels)} labels."
                )
        image_shape = (*shapes["train"][1:], 1)[:3]
        if (*shapes["test"][1:], 1)[:3] != image_shape:
            raise ValueError(
                f"x_train and x_test of {path} must have images of one shape. Received: "
                f"{shapes['train']} and {shapes['test']}."
            )
        if image_shape[2] not in (1, 3, 4):
            raise ValueError(
                f"Images of {path} must be grey or in colours, which come last. Received: shape "
                f"{shapes['train']}."
            )
        classes = int(max(its_labels.max() for its_labels in labels.values())) + 1
        empty = np.setdiff1d(np.arange(classes), labels["train"])
        if len(empty):
            print(
                f"{path}: {len(empty)} of {classes} classes have no training image, the first is "
                f"{empty[0]}. Labels count from 0.",
                file=sys.stderr,
            )
        if test_only:
            labels["train"] = labels["train"][:0]
        count = sum(map(len, labels.values()))
        kept = store.Store(count * math.prod(image_shape), memory_share)
        splits = [
            kept.split(
                _batches(path, archive, part, its_labels),
                len(its_labels),
                image_shape,
                store.shuffled(len(its_labels)),
            )
            for part, its_labels in labels.items()
        ]
    if classes < 2:
        raise ValueError(f"{path} must have images of two classes or more. Received labels 0.")
    return *splits, classes


def _header(path: pathlib.Path, file: IO[bytes], name: str) -> tuple[tuple[int, ...], np.dtype]:
    """Shape and type of the array that the file goes on with."""
    try:
        version = np.lib.format.read_magic(file)
        read = {(1, 0): np.lib.format.read_array_header_1_0}.get(
            version, np.lib.format.read_array_header_2_0
        )
        shape, in_columns, dtype = read(file)
    except ValueError as error:
        raise ValueError(f"{name} of {path} is no NumPy array: {error}") from None
    if in_columns or dtype.hasobject or not dtype.itemsize:
        raise ValueError(
            f"{name} of {path} must be an array of numbers in C order. Received: {dtype}"
            f"{', in columns' if in_columns else ''}. Save np.ascontiguousarray({name})."
        )
    return shape, dtype


def _labels(path: pathlib.Path, archive: zipfile.ZipFile, name: str) -> np.ndarray:
    """Labels int32 [n]."""
    with archive.open(f"{name}.npy") as file:
        shape, dtype = _header(path, file, name)
        if math.prod(shape) * dtype.itemsize > _MOST_LABELS:
            raise ValueError(
                f"{name} of {path} must take at most {_MOST_LABELS >> 20} MiB. Received: {dtype} "
                f"of shape {shape}. Save class numbers."
            )
        good = len(shape) in (1, 2) and min(shape) > 0 and dtype.kind in "iuf"
        labels = _read(file, name, shape, dtype) if good else None
    if good and labels.ndim == 2 and labels.shape[1] > 1:
        good = ((labels == 1).sum(axis=1) == 1).all() and (labels != 0).sum() == len(labels)
        labels = labels.argmax(axis=1)
    if good:
        labels = labels.reshape(-1)
        good = (labels == np.round(labels)).all() and 0 <= labels.min() <= labels.max() < 1e6
    if not good:
        raise ValueError(
            f"{name} of {path} must be class numbers from 0, [n] or [n, 1], or one-hot rows. "
            f"Received: {dtype} of shape {shape}."
        )
    return labels.astype(np.int32)


def _batches(
    path: pathlib.Path, archive: zipfile.ZipFile, part: str, labels: np.ndarray
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Images uint8 and labels, some at a time."""
    with archive.open(f"x_{part}.npy") as file:
        shape, dtype = _header(path, file, f"x_{part}")
        at_once = store.at_once(dtype.itemsize * math.prod(shape[1:]))
        for start in range(0, len(labels), at_once):
            some = labels[start : start + at_once]
            images = _read(file, f"x_{part}", (len(some), *shape[1:]), dtype)
            images = _bytes(images, f"x_{part} of {path}")
            yield images[..., None] if len(shape) == 3 else images, some


def _read(file: IO[bytes], name: str, shape: tuple[int, ...], dtype: np.dtype) -> np.ndarray:
    """So much of an array as the shape says."""
    content = file.read(math.prod(shape) * dtype.itemsize)
    if len(content) < math.prod(shape) * dtype.itemsize:
        raise EOFError(f"{name} ends early")
    return np.frombuffer(content, dtype).reshape(shape)


def _bytes(images: np.ndarray, what: str) -> np.ndarray:
    """Images as uint8."""
    if images.dtype == np.uint8:
        return images
    if np.issubdtype(images.dtype, np.floating):
        low, high = images.min(), images.max()
        if low >= 0 and high <= 1:
            return np.round(images * 255).astype(np.uint8)
    elif np.issubdtype(images.dtype, np.integer):
        low, high = images.min(), images.max()
        if low >= 0 and high <= 255:
            return images.astype(np.uint8)
    else:
        low = high = "no numbers"
    raise ValueError(
        f"{what} must be whole numbers in 0..255 or floats in [0, 1]. Received: {images.dtype} "
        f"from {low} to {high}. Save images.astype('uint8') of pixels in 0..255."
    )
