"""Pictures of images, Jacobians and adapted Jacobians."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence

import keras
import matplotlib
import matplotlib.figure
import numpy as np
import tensorflow as tf
from matplotlib.backends.backend_agg import FigureCanvasAgg

from jarn_tf.jacobian import input_jacobian
from jarn_tf.jarn import JARN


def jacobian_pictures(
    model: keras.Model, images: np.ndarray, jacobians: np.ndarray
) -> dict[str, np.ndarray]:
    """Images, Jacobians and adapted Jacobians, each as pictures [n, h, w, c] in [0, 1].

    Args:
        model: A `Defense`.
        images: Float images in [0, 1].
        jacobians: Those of the images, by `jacobians_of`.

    Returns:
        `"input"`; `"jacobian"`, by `signed_to_pixels`; of a `JARN` also `"adapted_jacobian"`, cut
        to [0, 1] where the discriminator sees it unscaled, else by `signed_to_pixels`.
    """
    pictures = {"input": images, "jacobian": signed_to_pixels(jacobians)}
    if isinstance(model, JARN):
        adapted = model.adapt(tf.constant(jacobians)).numpy()
        scaled = signed_to_pixels(adapted) if model.standardize else adapted.clip(0, 1)
        pictures["adapted_jacobian"] = scaled
    return pictures


def jacobians_of(model: keras.Model, images: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Jacobians of what `differentiated` says."""
    return input_jacobian(model.classifier, images, labels, differentiated(model)).numpy()


def differentiated(model: keras.Model) -> str:
    """What Jacobians are shown of: of a `JARN` what it trains on, of any other `Defense` the loss.

    One of `arguments.JACOBIANS`.
    """
    return model.jacobian_of if isinstance(model, JARN) else "loss"


def signed_to_pixels(jacobians: np.ndarray) -> np.ndarray:
    """Each Jacobian in units of its own root mean square: -3 black, 0 middle grey, 3 white.

    So a picture says nothing of a Jacobian's size, which changes by orders of magnitude in
    training, and equal patterns look equal at any time.
    """
    jacobians = jacobians.astype(np.float64)  # whose squares do not underflow
    axes = tuple(range(1, jacobians.ndim))
    unit = np.sqrt(np.square(jacobians).mean(axis=axes, keepdims=True))
    return (0.5 + jacobians / np.where(unit > 0, 6 * unit, 1)).clip(0, 1)


def jacobian_board(pictures: dict[str, np.ndarray], columns: int = 8, zoom: int = 3) -> np.ndarray:
    """Rows of pictures as one picture, one column an image, the rows' names on the left.

    Args:
        pictures: Name of a row to its pictures [n, h, w, 1 or 3] in [0, 1], as of
            `jacobian_pictures`.
        columns: Images side by side; the others follow in blocks of rows below.
        zoom: Pixels on the screen along each side of a pixel.

    Returns:
        Float array [height, width, 3] in [0, 1].
    """
    examples = len(next(iter(pictures.values())))
    columns = min(columns, examples)
    strips = [
        (name.replace("_", "\n"), _strip(images[first : first + columns], columns, zoom))
        for first in range(0, examples, columns)
        for name, images in pictures.items()
    ]
    height, length, _ = strips[0][1].shape
    margin, gap = 92, 10  # of the names, and between two blocks
    tops = [row * height + row // len(pictures) * gap for row in range(len(strips))]
    across, down = margin + length, tops[-1] + height
    dpi = 128  # a power of 2, so that the size in pixels is exact
    figure = matplotlib.figure.Figure((across / dpi, down / dpi), dpi=dpi)
    canvas = FigureCanvasAgg(figure)
    for top, (name, strip) in zip(tops, strips):
        bottom = down - top - height
        figure.figimage(strip, margin, bottom)
        at = (margin - 8) / across, (bottom + height / 2) / down
        figure.text(*at, name, ha="right", va="center", fontsize=10)
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())[..., :3] / np.float32(255)


def _strip(images: np.ndarray, columns: int, zoom: int) -> np.ndarray:
    """Images [n, h, w, c] side by side in white frames, white where fewer than `columns`."""
    images = images.repeat(zoom, axis=1).repeat(zoom, axis=2)
    images = np.broadcast_to(images, (*images.shape[:3], 3))
    missing = columns - len(images)
    framed = np.pad(images, ((0, missing), (0, 0), (0, 0), (0, 0)), constant_values=1)
    framed = np.pad(framed, ((0, 0), (1, 1), (1, 1), (0, 0)), constant_values=1)
    return np.concatenate(list(framed), axis=1)


@matplotlib.rc_context({"text.parse_math": False})  # names of datasets may hold dollar signs
def jacobian_figure(
    path: str | os.PathLike,
    rows: dict[str, np.ndarray],
    labels: np.ndarray,
    title: str,
    notes: Mapping[str, Sequence[str]] | None = None,
) -> None:
    """Draws rows of pictures, one column an image, into a PNG.

    Args:
        path: The file to write.
        rows: Name of a row to its images [n, height, width, channels] in [0, 1].
        labels: Labels [n], written above the columns.
        title: Lines above the figure.
        notes: Name of a row to texts below its images.
    """
    columns = len(labels)
    figure = matplotlib.figure.Figure((columns * 0.95 + 1.6, len(rows) * 1.0 + 0.7), dpi=110)
    axes = figure.subplots(len(rows), columns, squeeze=False)
    for row, (name, images) in enumerate(rows.items()):
        for column in range(columns):
            axis = axes[row, column]
            picture = images[column]
            grey = picture.shape[-1] == 1
            axis.imshow(picture[..., 0] if grey else picture, cmap="gray", vmin=0, vmax=1)
            axis.set_xticks([])
            axis.set_yticks([])
            if row == 0:
                axis.set_title(str(labels[column]), fontsize=10)
            if notes and name in notes:
                axis.set_xlabel(notes[name][column], fontsize=9)
        name = name.replace("_", "\n")
        axes[row, 0].set_ylabel(name, rotation=0, ha="right", va="center", fontsize=10)
    figure.suptitle(title, fontsize=11)
    figure.tight_layout()
    figure.savefig(path)
