"""Tables 1 to 3: accuracy of each defense under the paper's attacks."""

from __future__ import annotations

from jarn_tf.reproduction import runs
from jarn_tf.reproduction.published import ACCURACY
from jarn_tf.reproduction.results import Cell
from jarn_tf.reproduction.setting import Setting


def cells(setting: Setting) -> list[Cell]:
    """One cell a row and seed: train, then attack."""
    return runs.cell_per_model(setting, _cell)


def _cell(setting: Setting, row: str, seed: int) -> dict:
    return {"values": {row: runs.accuracies(setting, runs.trained(setting, row, seed))}}


def published(setting: Setting, row: str, column: str) -> float | None:
    """The paper's accuracy on the dataset, at the paper's radius."""
    return ACCURACY.get((setting.dataset, row, column))
