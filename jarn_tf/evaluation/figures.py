"""Pictures of images, Jacobians and adapted Jacobians."""

from __future__ import annotations

import os

import keras
import matplotlib.figure
import numpy as np

from jarn_tf.jacobian import input_jacobian
from jarn_tf.jarn import JARN


def jacobian_pictures(
    model: keras.Model, images: np.ndarray, labels: np.ndarray
) -> dict[str, np.ndarray]:
    """Images, Jacobians and adapted Jacobians, each as pictures [n, h, w, c] in [0, 1].

    Args:
        model: A `Defense`. Of a `JARN`, J is the Jacobian that it trains on; of any other, that
            of the loss.
        images: Float images in [0, 1].
        labels: Labels [n].

    Returns:
        `"input"`; `"jacobian"`, scaled, with 0 as middle grey; of a `JARN` also
        `"adapted_jacobian"`, cut to [0, 1] where the discriminator sees it unscaled, else scaled.
    """
    if not isinstance(model, JARN):
        jacobians = input_jacobian(model.classifier, images, labels).numpy()
        return {"input": images, "jacobian": signed_to_pixels(jacobians)}
    jacobians = input_jacobian(model.classifier, images, labels, model.jacobian_of)
    adapted = model.adapt(jacobians).numpy()
    return {
        "input": images,
        "jacobian": signed_to_pixels(jacobians.numpy()),
        "adapted_jacobian": signed_to_pixels(adapted) if model.standardize else adapted.clip(0, 1),
    }


def signed_to_pixels(jacobians: np.ndarray) -> np.ndarray:
    """Each Jacobian scaled by its largest magnitude, 0 drawn as middle grey, into [0, 1]."""
    axes = tuple(range(1, jacobians.ndim))
    largest = np.abs(jacobians).max(axis=axes, keepdims=True)
    return 0.5 + 0.5 * jacobians / np.where(largest > 0, largest, 1)


def image_grid(images: np.ndarray, columns: int = 4, zoom: int = 3) -> np.ndarray:
    """Images [n, h, w, c] in [0, 1] as one picture [height, width, c] with white lines between."""
    images = images.repeat(zoom, axis=1).repeat(zoom, axis=2)
    framed = np.pad(images, ((0, 0), (1, 1), (1, 1), (0, 0)), constant_values=1)
    framed = framed[: len(framed) // columns * columns] if len(framed) > columns else framed
    rows = [framed[i : i + columns] for i in range(0, len(framed), columns)]
    return np.concatenate([np.concatenate(list(row), axis=1) for row in rows], axis=0)


def jacobian_figure(
    path: str | os.PathLike,
    rows: dict[str, np.ndarray],
    labels: np.ndarray,
    title: str,
) -> None:
    """Draws rows of pictures, one column an image, into a PNG.

    Args:
        path: The file to write.
        rows: Name of a row to its images [n, height, width, channels] in [0, 1].
        labels: Labels [n], written above the columns.
        title: Line above the figure.
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
        axes[row, 0].set_ylabel(name, rotation=0, ha="right", va="center", fontsize=10)
    figure.suptitle(title, fontsize=11)
    figure.tight_layout()
    figure.savefig(path)


def verdict_figure(
    path: str | os.PathLike, accuracies: dict[str, dict[float, float]], epsilon: float, title: str
) -> None:
    """Draws accuracy over epsilon, a line an attack, into a PNG.

    Args:
        path: The file to write.
        accuracies: As in `Verdict.accuracies`; an attack at one radius alone is a point.
        epsilon: The radius that robustness is claimed for, marked by a vertical line.
        title: Line above the figure.
    """
    figure = matplotlib.figure.Figure((8.4, 4.6), dpi=110)
    axis = figure.subplots()
    axis.axvline(epsilon, color="0.75", linestyle="--", linewidth=1)
    curves = {name: curve for name, curve in accuracies.items() if len(curve) > 2}
    for number, (name, curve) in enumerate(curves.items()):
        # Later lines are thinner, so that equal ones do not hide one another.
        values = [100 * value for value in curve.values()]
        width = 1 + 0.3 * (len(curves) - number)
        style = ("-", "--", "-.", ":")[number % 4]
        axis.plot(list(curve), values, style, marker="o", markersize=4, linewidth=width, label=name)
    for number, name in enumerate(name for name in accuracies if name not in curves):
        radius, value = list(accuracies[name].items())[-1]
        axis.plot(radius, 100 * value, "xvs+"[number % 4], markersize=7, label=name)
    axis.set_xscale("function", functions=(np.sqrt, np.square))  # small radii matter as much
    ticks = sorted({radius for curve in curves.values() for radius in curve})
    axis.set_xticks(ticks, [f"{radius:.3g}" for radius in ticks], rotation=45)
    axis.set_xlim(0, 1.02)
    axis.set_xlabel("epsilon (L-infinity, pixels in [0, 1])")
    axis.set_ylabel("accuracy [%]")
    axis.set_ylim(-3, 103)
    axis.grid(alpha=0.3)
    axis.legend(fontsize=8, loc="center left", bbox_to_anchor=(1.01, 0.5))
    axis.set_title(title, fontsize=11)
    figure.tight_layout()
    figure.savefig(path)
