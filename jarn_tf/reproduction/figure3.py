"""Figure 3: the loss along the adversarial and a random orthogonal direction."""

from __future__ import annotations

import pathlib

import matplotlib.figure
import numpy as np

from jarn_tf import evaluation
from jarn_tf.reproduction import models
from jarn_tf.reproduction.experiment import Experiment
from jarn_tf.reproduction.results import Cell
from jarn_tf.reproduction.setting import ROWS, Setting

_IMAGES = 100


def cells(setting: Setting) -> list[Cell]:
    """One cell a row and seed: the surface around the first test images."""
    return models.cell_per_model(setting, _cell)


def _cell(setting: Setting, row: str, seed: int) -> dict:
    classifier = models.classifier(models.trained(setting, row, seed))
    test = models.dataset(setting).test.first(_IMAGES)
    surfaces = evaluation.loss_surface(
        classifier, test.floats, test.labels, epsilon=setting.epsilon, seed=seed
    )
    mean = surfaces.mean(axis=0)
    values = {
        "loss at the image": mean[0, 0],
        "at eps, adversarial": mean[-1, 0],
        "at eps, random": mean[0, -1],
        "highest": surfaces.max(axis=(1, 2)).mean(),
        "bend": _bend(surfaces),
    }
    return {
        "values": {row: {name: float(value) for name, value in values.items()}},
        "surface": mean.tolist(),
        "first": surfaces[0].tolist(),
        "images": len(surfaces),
    }


def _bend(surfaces: np.ndarray) -> float:
    """Median over images of the largest distance of the loss from a straight line.

    Along the adversarial direction, relative to the rise at its end: 0 for a linear loss, large
    for one whose gradient at the image tells nothing of what comes.
    """
    along = surfaces[:, :, 0]
    share = np.linspace(0, 1, along.shape[1])
    line = along[:, :1] * (1 - share) + along[:, -1:] * share
    rise = np.abs(along[:, -1] - along[:, 0])
    return float(np.median(np.abs(along - line).max(axis=1) / np.maximum(rise, 1e-6)))


def draw(setting: Setting, results: dict, path: pathlib.Path) -> None:
    """A surface a model, of its first seed: around the first test image, and the mean over all.

    Heights differ by orders of magnitude, so the surfaces of one scale share it, and it is said.
    """
    first = {row: _of_first_seed(results, row) for row in setting.rows}
    figure = matplotlib.figure.Figure((2.9 * len(first), 6.6), dpi=110)
    distances = np.linspace(0, setting.epsilon, len(next(iter(first.values()))["surface"]))
    along, aside = np.meshgrid(distances, distances, indexing="ij")
    images = next(iter(first.values())).get("images", _IMAGES)
    for line, (name, title) in enumerate(
        (("first", "first test image"), ("surface", f"mean of {images} images"))
    ):
        for column, (row, result) in enumerate(first.items()):
            place = line * len(first) + column + 1
            axis = figure.add_subplot(2, len(first), place, projection="3d")
            surface = np.array(result[name])
            top = _scale(surface.max())
            axis.plot_surface(along, aside, surface, cmap="viridis", linewidth=0, vmin=0, vmax=top)
            axis.set_zlim(0, top)
            axis.set_title(f"{ROWS[row]}\n{title}\nloss from 0 to {top:g}", fontsize=9)
            axis.set_xlabel("adversarial", fontsize=7)
            axis.set_ylabel("random", fontsize=7)
            axis.tick_params(labelsize=6)
    figure.tight_layout(h_pad=2.5)
    figure.savefig(path)


def _scale(highest: float) -> float:
    """The least of 1, 3, 10, 30 and so on, up and down, that is not below."""
    decade = 10.0 ** np.floor(np.log10(max(highest, 1e-6)))
    return next(decade * factor for factor in (1, 3, 10) if highest <= decade * factor)


def _of_first_seed(results: dict, row: str) -> dict:
    return min((r for r in results.values() if row in r["values"]), key=lambda r: r["seed"])


FIGURE3 = Experiment(
    "Figure 3: the loss around an image",
    "cifar10",
    ("standard", "fgsm_at", "jarn", "jarn_at", "pgd_at"),
    cells,
    draw=draw,
)
