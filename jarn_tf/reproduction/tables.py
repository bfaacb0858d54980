"""Tables 1 to 3: accuracy of each defense under the paper's attacks."""

from __future__ import annotations

from jarn_tf.reproduction import models
from jarn_tf.reproduction.experiment import Experiment
from jarn_tf.reproduction.published import ACCURACY
from jarn_tf.reproduction.results import Cell
from jarn_tf.reproduction.setting import BASELINES, SEVEN, Setting


def cells(setting: Setting) -> list[Cell]:
    """One cell a row and seed: train, then attack."""
    return models.cell_per_model(setting, _cell)


def _cell(setting: Setting, row: str, seed: int) -> dict:
    accuracies = models.accuracies(setting, models.trained(setting, row, seed))
    return {"values": {row: accuracies}, "examples": len(models.dataset(setting).test)}


def published(setting: Setting, row: str, column: str) -> float | None:
    """The paper's accuracy on the dataset, at the paper's radius."""
    return ACCURACY.get((setting.dataset, row, column))


TABLE1 = Experiment("Table 1: accuracy (%)", "mnist", BASELINES, cells, published)
TABLE2 = Experiment("Table 2: accuracy (%)", "svhn", BASELINES, cells, published)
TABLE3 = Experiment("Table 3: accuracy (%)", "cifar10", SEVEN, cells, published)
