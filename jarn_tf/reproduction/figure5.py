"""Figure 5: how sensitive JARN is to lambda_adv, batch size and discriminator interval."""

from __future__ import annotations

import pathlib

import matplotlib.figure
import numpy as np

from jarn_tf.reproduction import runs
from jarn_tf.reproduction.published import ACCURACY
from jarn_tf.reproduction.results import Cell
from jarn_tf.reproduction.setting import COST, Setting

#: Field of the configuration to the values tried, the others at the preset's. The paper says
#: "a range"; its values are in a picture alone.
_GRID = {
    "adversarial_weight": (0.1, 1.0, 10.0),
    "batch_size": (64, 128, 256),
    "discriminator_interval": (2, 10, 50),
}
_TINY_BATCHES = (16, 32, 64)


def _points(setting: Setting) -> list[tuple[str, float]]:
    grid = _GRID | ({"batch_size": _TINY_BATCHES} if setting.scale == "smoke" else {})
    return [(name, value) for name, values in grid.items() for value in values]


def cells(setting: Setting) -> list[Cell]:
    """One cell a point of the grid, row and seed."""
    return [
        Cell(
            f"{row}, {name} {value:g}, seed {seed}",
            seed,
            COST[row],
            lambda row=row, name=name, value=value, seed=seed: _cell(
                setting, row, name, value, seed
            ),
        )
        for seed in setting.seeds
        for row in setting.rows
        for name, value in _points(setting)
    ]


def _cell(setting: Setting, row: str, name: str, value: float, seed: int) -> dict:
    at_preset = getattr(setting.config(row, seed), name) == value
    workdir = runs.trained(setting, row, seed, **({} if at_preset else {name: value}))
    return {"values": {f"{row}, {name} {value:g}": runs.accuracies(setting, workdir)}}


def published(setting: Setting, row: str, column: str) -> float | None:
    """The dataset's table where a point is the paper's own setting; the rest is a picture."""
    row, point = row.split(", ")
    name, value = point.split(" ")
    if getattr(setting.config(row, 0), name) != float(value):
        return None
    return ACCURACY.get((setting.dataset, row, column))


def draw(setting: Setting, results: dict, path: pathlib.Path) -> None:
    """One panel a setting, one line an attack, of the first row."""
    figure = matplotlib.figure.Figure((11, 3.6), dpi=110)
    row = setting.rows[0]
    for axis, name in zip(figure.subplots(1, len(_GRID), sharey=True), _GRID):
        values = [value for field, value in _points(setting) if field == name]
        found = [
            [r["values"][label] for r in results.values() if label in r["values"]]
            for label in (f"{row}, {name} {value:g}" for value in values)
        ]
        for column in found[0][0]:
            means = [np.mean([values[column] for values in at_point]) for at_point in found]
            axis.plot(range(len(values)), means, marker="o", markersize=3, label=column)
        axis.set_xticks(range(len(values)), [f"{value:g}" for value in values])
        axis.set_xlabel(name)
        axis.grid(alpha=0.3)
    figure.axes[0].set_ylabel("accuracy, %")
    figure.axes[0].set_ylim(0, 100)
    figure.axes[-1].legend(fontsize=8)
    figure.tight_layout()
    figure.savefig(path)
