"""Figure 2: accuracy under PGD of 5, 10 and 20 steps over the radius."""

from __future__ import annotations

import pathlib

import matplotlib.figure
import numpy as np

from jarn_tf import evaluation
from jarn_tf.evaluation import Attack
from jarn_tf.evaluation.curves import COLORS, label_ends
from jarn_tf.reproduction import models
from jarn_tf.reproduction.experiment import Experiment
from jarn_tf.reproduction.published import ACCURACY
from jarn_tf.reproduction.results import Cell
from jarn_tf.reproduction.setting import ROWS, Setting

_STEPS = (5, 10, 20)
#: Radii by that of the tables, which is among them; the figure's own are not printed.
_RADII = {0.3: (0.1, 0.2, 0.3, 0.4), 8 / 255: (4 / 255, 8 / 255, 12 / 255, 16 / 255)}


def cells(setting: Setting) -> list[Cell]:
    """One cell a row and seed: the model at every radius."""
    return models.cell_per_model(setting, _cell, extra=5)


def _cell(setting: Setting, row: str, seed: int) -> dict:
    classifier = models.classifier(models.trained(setting, row, seed))
    test = models.dataset(setting).test
    attacks = [
        Attack(f"pgd{steps}", radius) for steps in _STEPS for radius in _RADII[setting.epsilon]
    ]
    values: dict = {_label(row, steps): {} for steps in _STEPS}
    (clean,) = evaluation.robustness(classifier, test.floats, test.labels, [Attack("clean", 0.0)])
    for steps in _STEPS:
        values[_label(row, steps)][models.radius_label(setting, 0.0)] = 100 * clean["accuracy"]
    for found in evaluation.robustness(classifier, test.floats, test.labels, attacks):
        if found["name"] != "worst_case":
            column = models.radius_label(setting, found["epsilon"])
            values[_label(row, found["steps"])][column] = 100 * found["accuracy"]
    return {"values": values, "examples": len(test)}


def _label(row: str, steps: int) -> str:
    return f"{row}, PGD-{steps}"


def published(setting: Setting, row: str, column: str) -> float | None:
    """What the figure shares with the dataset's table; the rest of it is a picture alone."""
    row, attack = row.split(", ")
    if column == models.radius_label(setting, 0.0):
        return ACCURACY.get((setting.dataset, row, "clean"))
    if column == models.radius_label(setting, setting.epsilon):
        return ACCURACY.get((setting.dataset, row, attack))
    return None


def draw(setting: Setting, results: dict, path: pathlib.Path) -> None:
    """One panel an attack, one line a model, with the range over seeds."""
    figure = matplotlib.figure.Figure((12.5, 3.8), dpi=110)
    axes = figure.subplots(1, len(_STEPS), sharey=True)
    colors = [COLORS[i % len(COLORS)] for i in range(len(setting.rows))]
    for axis, steps in zip(axes, _STEPS):
        ends = {}
        for row, color in zip(setting.rows, colors):
            curves = [
                result["values"][_label(row, steps)]
                for result in results.values()
                if _label(row, steps) in result["values"]
            ]
            accuracy = np.array([list(curve.values()) for curve in curves])
            radii = [0.0, *_RADII[setting.epsilon]]
            mean = accuracy.mean(axis=0)
            axis.plot(radii, mean, "o-", color=color, linewidth=2, markersize=4)
            axis.fill_between(
                radii,
                accuracy.min(axis=0),
                accuracy.max(axis=0),
                color=color,
                alpha=0.2,
                linewidth=0,
            )
            ends[ROWS[row]] = radii[-1], mean[-1], color
        axis.set_title(f"PGD-{steps}", fontsize=11)
        axis.set_xlabel("radius (pixels in [0, 1])")
        axis.grid(alpha=0.3)
    axes[0].set_ylabel("accuracy, %")
    axes[0].set_ylim(0, 100)
    label_ends(axes[-1], ends)
    figure.tight_layout()
    figure.savefig(path)


FIGURE2 = Experiment(
    "Figure 2: accuracy (%) over the radius",
    "cifar10",
    ("jarn_at", "pgd_at", "pgd_at_wide"),
    cells,
    published,
    draw,
)
