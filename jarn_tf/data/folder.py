"""Pictures in folders, one folder a class."""

from __future__ import annotations

import concurrent.futures
import io
import math
import os
import pathlib
import sys
import warnings
from collections.abc import Iterator

import keras
import numpy as np
import PIL.Image

from jarn_tf.data import store
from jarn_tf.data.split import Split

#: Those that `keras.utils.image_dataset_from_directory` takes, and others that Pillow reads.
_ENDINGS = (".bmp", ".gif", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp")
_NAMED = 5

#: A picture and its label.
File = tuple[pathlib.Path, int]


def load(
    source: str, image_size: int | None, memory_share: float, test_only: bool
) -> tuple[Split, Split, int]:
    """Training split, test split and number of classes of pictures in `source`.

    They have one channel where all are grey, else three. Broken files are left out; standard error
    says how many, and names the first. So are pictures of more pixels than Pillow takes for safe
    (`PIL.Image.MAX_IMAGE_PIXELS`, 89 million): a small file can have so many.
    """
    folder = pathlib.Path(source).expanduser()
    if not folder.is_dir():
        raise FileNotFoundError(f"There is no folder {folder}.")
    train, test, classes = _listed(folder)
    broken: list[pathlib.Path] = []
    with warnings.catch_warnings():  # which is all that Pillow does up to twice the limit
        warnings.simplefilter("error", PIL.Image.DecompressionBombWarning)
        shape = _shape(train, image_size, 1 if _all_grey(train + test) else 3)
        train = [] if test_only else train
        kept = store.Store((len(train) + len(test)) * math.prod(shape), memory_share)
        splits = [
            kept.split(_batches(files, image_size, shape, broken), len(files), shape)
            for files in (train, test)
        ]
    if broken:
        names = ", ".join(map(str, broken[:_NAMED])) + (", ..." if len(broken) > _NAMED else "")
        print(
            f"Left out {len(broken)} of {len(train) + len(test)} pictures, which cannot be read, "
            f"have more than 8 bits or too many pixels: {names}",
            file=sys.stderr,
        )
    if not test_only and len(np.unique(splits[0].labels)) < classes:
        raise ValueError(f"{folder} has a class of which no training picture can be read.")
    return *splits, classes


def _listed(folder: pathlib.Path) -> tuple[list[File], list[File], int]:
    """Files of the training and of the test split, each in a fixed random order."""
    parts = {part.name.lower(): part for part in folder.iterdir() if part.is_dir()}
    train = parts.get("train")
    test = parts.get("test") or parts.get("val") or parts.get("validation")
    if train and not test:
        raise ValueError(
            f"{folder} must have test (or val) beside train, each with a folder a class. "
            f"Received: {', '.join(sorted(parts))}."
        )
    if train:
        unused = [part for name, part in parts.items() if part not in (train, test)]
        if unused:
            print(f"Not used: {', '.join(map(str, sorted(unused)))}", file=sys.stderr)
        classes = _classes(train)
        if _classes(test) != classes:
            raise ValueError(
                f"{train} and {test} must have the same classes. Received: "
                f"{', '.join(classes)}, and {', '.join(_classes(test))}."
            )
        splits = [_files(part, classes) for part in (train, test)]
    else:
        import sklearn.model_selection  # takes longer than the rest of the library

        classes = _classes(folder)
        files = _files(folder, classes)
        try:
            splits = sklearn.model_selection.train_test_split(
                files, test_size=0.2, stratify=[label for _, label in files], random_state=0
            )
        except ValueError as error:  # such as a class of a single picture
            raise ValueError(
                f"{folder} cannot be split in training and test pictures: {error}"
            ) from None
    return *([files[p] for p in store.shuffled(len(files))] for files in splits), len(classes)


def _classes(folder: pathlib.Path) -> list[str]:
    """Names of the classes, in the order of their labels."""
    found = sorted(p.name for p in folder.iterdir() if p.is_dir() and not p.name.startswith("."))
    if len(found) < 2:
        raise ValueError(
            f"{folder} must have a folder of pictures for each class, two or more. Received: "
            f"{', '.join(found) or 'none'}."
        )
    return found


def _files(folder: pathlib.Path, classes: list[str]) -> list[File]:
    """Every picture and its label, sorted."""
    found = [
        (path, label)
        for label, name in enumerate(classes)
        for path in sorted((folder / name).rglob("*"))
        if path.suffix.lower() in _ENDINGS
    ]
    empty = set(range(len(classes))) - {label for _, label in found}
    if empty:
        raise ValueError(
            f"{folder / classes[min(empty)]} must have pictures, files that end in "
            f"{', '.join(_ENDINGS)}. Received: none."
        )
    return found


def _all_grey(files: list[File]) -> bool:
    """Whether none of the pictures that can be read has colours.

    Headers alone are read, before any picture: the array for all needs to know the channels. With
    `test_only` the training pictures count too, as a classifier of all has to fit.
    """
    return not any(_has_colours(path) for path, _ in files)


def _has_colours(path: pathlib.Path) -> bool:
    try:
        with PIL.Image.open(_regular(path)) as picture:
            return picture.mode not in ("1", "L", "LA") and not _is_deep(picture)
    except Exception:  # Pillow has no common class for what it raises
        return False


def _regular(path: pathlib.Path) -> pathlib.Path:
    """The path of a file; OSError if it is none, as a pipe, which would never end."""
    if not path.is_file():
        raise OSError(f"{path} is no file")
    return path


def _is_deep(picture: PIL.Image.Image) -> bool:
    """Whether a picture has more than 8 bits, which Pillow would clip."""
    return picture.mode.startswith(("I", "F"))


def _shape(files: list[File], image_size: int | None, channels: int) -> tuple[int, int, int]:
    """That of the images: what is asked for, else that of the first that can be read."""
    if image_size is not None:
        return image_size, image_size, channels
    for path, _ in files:
        picture = _picture(path, None, channels)
        if picture is not None:
            return picture.shape
    raise ValueError(f"None of {len(files)} pictures can be read. The first is {files[0][0]}.")


def _batches(
    files: list[File],
    image_size: int | None,
    shape: tuple[int, int, int],
    broken: list[pathlib.Path],
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Pictures and labels that can be read; the others' paths are added to `broken`."""
    at_once = store.at_once(math.prod(shape))
    with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
        for start in range(0, len(files), at_once):
            some = files[start : start + at_once]
            images, labels = [], []
            pictures = pool.map(
                lambda file: _picture(file[0], image_size, shape[2], shape[:2]), some
            )
            for (path, label), picture in zip(some, pictures):
                if picture is None:
                    broken.append(path)
                    continue
                images.append(picture)
                labels.append(label)
            if images:
                yield np.stack(images), np.array(labels)


def _picture(
    path: pathlib.Path,
    image_size: int | None,
    channels: int,
    size: tuple[int, int] | None = None,
) -> np.ndarray | None:
    """A picture uint8 [height, width, channels], or its middle square scaled; None if broken.

    Raises:
        ValueError: It is not to be scaled and is not of the height and width given.
    """
    try:
        file = io.BytesIO(_regular(path).read_bytes())
        picture = PIL.Image.open(file)
    except Exception:  # as above
        return None
    if _is_deep(picture):
        return None
    received = picture.height, picture.width
    if image_size is None and size not in (None, received):  # before it takes memory
        raise ValueError(
            f"Pictures must be of one size, or --image_size has to be given. Received one of "
            f"{size[0]}x{size[1]}, and {path} of {received[0]}x{received[1]} pixels."
        )
    try:
        picture = keras.utils.load_img(
            file,
            color_mode="grayscale" if channels == 1 else "rgb",
            target_size=image_size and (image_size, image_size),
            interpolation="bilinear",
            keep_aspect_ratio=True,
        )
        return np.asarray(picture).reshape(picture.height, picture.width, channels)
    except Exception:  # as above
        return None
