"""Figure 5: how sensitive JARN is to lambda_adv, batch size and discriminator interval."""

from __future__ import annotations

import functools
import pathlib

import matplotlib.figure
import numpy as np

from jarn_tf.reproduction import models
from jarn_tf.reproduction.experiment import Experiment
from jarn_tf.reproduction.published import ACCURACY
from jarn_tf.reproduction.results import Cell
from jarn_tf.reproduction.setting import ROWS, Setting
from jarn_tf.runs.presets import preset

#: Field of the configuration to multiples of the preset's value, the other fields at theirs. The
#: paper says "a range"; its values are in a picture alone.
_FACTORS = {
    "adversarial_weight": (0.1, 1, 10),
    "batch_size": (0.5, 1, 2),
    "discriminator_interval": (0.2, 1, 5),
}


def _values(setting: Setting, row: str, name: str) -> list[float]:
    base = getattr(setting.config(row, 0), name)
    if isinstance(base, int):
        return list(dict.fromkeys(max(1, round(base * factor)) for factor in _FACTORS[name]))
    return [round(base * factor, 6) for factor in _FACTORS[name]]


def _changes(setting: Setting, row: str, name: str, value: float) -> dict[str, float]:
    """None where the value is the preset's, so that the model is that of the tables."""
    return {} if getattr(setting.config(row, 0), name) == value else {name: value}


def cells(setting: Setting) -> list[Cell]:
    """One cell a point of the grid, row and seed."""
    return [
        Cell(
            f"{row}, {name} {value:g}, seed {seed}",
            seed,
            models.training_cost(setting, row, seed, **_changes(setting, row, name, value)),
            functools.partial(_cell, setting, row, name, value, seed),
        )
        for seed in setting.seeds
        for row in setting.rows
        for name in _FACTORS
        for value in _values(setting, row, name)
    ]


def _cell(setting: Setting, row: str, name: str, value: float, seed: int) -> dict:
    changes = _changes(setting, row, name, value)
    workdir = models.trained(setting, row, seed, **changes)
    return {
        "values": {f"{row}, {name} {value:g}": models.accuracies(setting, workdir)},
        "examples": len(models.dataset(setting).test),
        "notes": models.collapse_notes(setting, row, f"{name} {value:g}", seed, **changes),
    }


def published(setting: Setting, row: str, column: str) -> float | None:
    """The dataset's table where a point is the paper's own setting; the rest is a picture."""
    row, point = row.split(", ")
    name, value = point.split(" ")
    if getattr(preset(setting.dataset, row, "paper"), name) != float(value):
        return None
    return ACCURACY.get((setting.dataset, row, column))


def draw(setting: Setting, results: dict, path: pathlib.Path) -> None:
    """A line of panels a model: one panel a setting, one line an attack."""
    figure = matplotlib.figure.Figure((12.5, 3.6 * len(setting.rows)), dpi=110)
    panels = figure.subplots(len(setting.rows), len(_FACTORS), sharey=True, squeeze=False)
    for line, row in zip(panels, setting.rows):
        for axis, name in zip(line, _FACTORS):
            _draw_panel(axis, results, row, name, _values(setting, row, name))
        line[0].set_ylabel(f"{ROWS[row]}: accuracy, %")
    panels[0, 0].set_ylim(0, 100)
    panels[0, -1].legend(fontsize=8, loc="upper left", bbox_to_anchor=(1.02, 1))
    figure.tight_layout()
    figure.savefig(path)


def _draw_panel(axis, results: dict, row: str, name: str, values: list[float]) -> None:
    found = [
        [r["values"][label] for r in results.values() if label in r["values"]]
        for label in (f"{row}, {name} {value:g}" for value in values)
    ]
    for column in found[0][0]:
        means = [np.mean([accuracies[column] for accuracies in point]) for point in found]
        axis.plot(range(len(values)), means, marker="o", markersize=3, label=column)
    axis.set_xticks(range(len(values)), [f"{value:g}" for value in values])
    axis.set_xlabel(name)
    axis.grid(alpha=0.3)


FIGURE5 = Experiment(
    "Figure 5: accuracy (%) over hyper-parameters",
    "cifar10",
    ("jarn",),
    cells,
    published,
    draw,
)
