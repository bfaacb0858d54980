"""Beyond the paper: what the authors' pipeline reaches over seeds, and over what they leave open.

Table 1 of the paper has 98.1 % for JARN under PGD-40 on MNIST. The pipeline of the authors'
CIFAR-10 code (preset `authors`) is trained on MNIST with every seed, and with one open choice
changed at a time with the first of them.
"""

from __future__ import annotations

import functools
import pathlib
from typing import Any

import matplotlib.figure

from jarn_tf.evaluation import Attack, robustness
from jarn_tf.reproduction import models
from jarn_tf.reproduction.experiment import Experiment
from jarn_tf.reproduction.published import ACCURACY
from jarn_tf.reproduction.results import Cell
from jarn_tf.reproduction.setting import Setting
from jarn_tf.runs.settings import Optimizer

#: What neither paper nor code says of MNIST, beside the length.
_CHOICES: dict[str, dict[str, Any]] = {
    "phase from 75 % on": {"jarn_start_fraction": 0.75},
    "phase from 50 % on": {"jarn_start_fraction": 0.5},
    "classifier Adam 1e-4": {"classifier_optimizer": Optimizer("adam", 1e-4)},
    "classifier SGD, the authors' rates": {
        "classifier_optimizer": Optimizer("sgd", 0.1, momentum=0.9),
        "classifier_decay": ((0.5, 0.1), (0.75, 0.01)),
    },
    "discriminator 32-64": {"discriminator_filters": (32, 64)},
    "discriminator 128-256": {"discriminator_filters": (128, 256)},
}
_AUTOATTACKED = 500
_SHOWN = ("PGD-40", "worst", "AutoAttack")


def choices(setting: Setting) -> dict[str, dict[str, Any]]:
    """Name of the preset and of each open choice to what it changes in the preset."""
    epochs = setting.config("jarn", 0).epochs
    return {
        "preset": {},
        "half as long": {"epochs": max(1, epochs // 2)},
        "twice as long": {"epochs": 2 * epochs},
    } | _CHOICES


def cells(setting: Setting) -> list[Cell]:
    """One cell a row and seed for the preset itself, one for each choice with the first seed."""
    return [
        Cell(
            f"{row}, {name}, seed {seed}",
            seed,
            setting.config(row, seed, **changes).epochs,
            functools.partial(_cell, setting, row, name, changes, seed),
            setting.config(row, seed, **changes),
            {"AutoAttack": _AUTOATTACKED},
        )
        for row in setting.rows
        for name, changes in choices(setting).items()
        for seed in (setting.seeds[:1] if changes else setting.seeds)
    ]


def _cell(setting: Setting, row: str, name: str, changes: dict[str, Any], seed: int) -> dict:
    workdir = models.trained(setting, row, seed, **changes)
    test = models.dataset(setting).test.first(_AUTOATTACKED)
    found = robustness(
        models.classifier(workdir),
        test.floats,
        test.labels,
        [Attack("autoattack", setting.epsilon)],
    )
    (share,) = (line["accuracy"] for line in found if line["name"] == "autoattack")
    values = models.accuracies(setting, workdir) | {"AutoAttack": 100 * share}
    return {
        "values": {f"{row}, {name}": values},
        "notes": models.collapse_notes(setting, row, name, seed, **changes),
    }


def published(setting: Setting, row: str, column: str) -> float | None:
    """The paper's accuracy, beside the preset itself."""
    row, name = row.split(", ", 1)
    return ACCURACY.get((setting.dataset, row, column)) if name == "preset" else None


def draw(setting: Setting, results: dict, path: pathlib.Path) -> None:
    """A dot a seed: PGD-40 on the cross-entropy, the worst of the attacks, AutoAttack."""
    figure = matplotlib.figure.Figure((9, 4.6), dpi=110)
    axis = figure.subplots()
    found = [
        (row.split(", ", 1)[1], columns)
        for result in results.values()
        for row, columns in result["values"].items()
    ]
    names = list(dict.fromkeys(name for name, _ in found))
    shown = [column for column in _SHOWN if column in found[0][1]]
    for index, column in enumerate(shown):
        places = [len(names) - 1 - names.index(name) + 0.2 - 0.2 * index for name, _ in found]
        accuracies = [columns[column] for _, columns in found]
        axis.plot(accuracies, places, "o", markersize=4, alpha=0.7, label=column)
    paper = ACCURACY.get((setting.dataset, "jarn", "PGD-40"))
    if paper is not None:
        axis.axvline(paper, color="grey", linestyle=":", label="PGD-40, paper")
    axis.set_yticks(range(len(names)), names[::-1])
    axis.set_xlim(-2, 102)
    axis.set_xlabel("accuracy, %")
    axis.grid(alpha=0.3)
    axis.legend(fontsize=8, loc="upper left", bbox_to_anchor=(1.02, 1))
    figure.tight_layout()
    figure.savefig(path)


AUTHORS = Experiment(
    "The authors' pipeline over seeds and open choices: accuracy (%); AutoAttack of 500 images",
    "mnist",
    ("jarn",),
    cells,
    published,
    draw,
    preset="authors",
    variants=True,
)
