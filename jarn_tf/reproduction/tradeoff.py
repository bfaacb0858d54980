"""Beyond the paper: what robustness costs in clean accuracy, each defense over its strength.

Every point trains for the same cost. The first seed trains every strength; of each defense the one
that withstands most validation images, averaged over the radii, is trained with the other seeds,
too. Figures are of test images, under AutoAttack.
"""

from __future__ import annotations

import dataclasses
import functools
import pathlib
import statistics
from collections.abc import Iterator
from typing import Any

import matplotlib.figure
import numpy as np

from jarn_tf.evaluation import Attack
from jarn_tf.reproduction import models, results
from jarn_tf.reproduction.experiment import Experiment, refuse_other_row
from jarn_tf.reproduction.results import Cell
from jarn_tf.reproduction.setting import Setting
from jarn_tf.runs import evaluating, evaluations
from jarn_tf.runs.config import Config


@dataclasses.dataclass(frozen=True)
class Sweep:
    """A defense and the setting that says how strong it is.

    Attributes:
        row: The row of `ROWS` that it is made of.
        strength: Name of the setting.
        digits, natural: Its values on digits and on natural images.
        changes: What else differs from the row.
    """

    row: str
    strength: str
    digits: tuple[float, ...]
    natural: tuple[float, ...]
    changes: dict[str, Any] = dataclasses.field(default_factory=dict)


def _penalty(name: str, digits: tuple[float, ...], natural: tuple[float, ...]) -> Sweep:
    return Sweep("uniform_noise", "penalty_weight", digits, natural, {"regularizer": name})


_SMALL_RADII = models.RADII[8 / 255]
_JARN_WEIGHTS = (0.02, 0.05, 0.2)
_LIGHT_WEIGHTS = (0.001, 0.005, 0.02)
#: At equal cost three steps leave time for more epochs than seven or ten.
_THREE_STEPS = {"attack_steps": 3, "attack_step_size": None}
#: The penalties are on noisy images, as JARN is.
SWEEPS = {
    "noise": Sweep("uniform_noise", "training_epsilon", (0.15, 0.3, 0.45), _SMALL_RADII),
    "double backprop": _penalty("double_backprop", (0.25, 1.0, 4.0), (0.01, 0.1, 1.0)),
    "L1": _penalty("l1_gradient", (0.03, 0.1, 0.3), _SMALL_RADII),
    "Frobenius": _penalty("frobenius", (0.005, 0.05, 0.5), (0.001, 0.01, 0.1)),
    "JARN": Sweep("jarn", "adversarial_weight", _JARN_WEIGHTS, _JARN_WEIGHTS),
    "FGSM-AT": Sweep("fgsm_at", "training_epsilon", (0.1, 0.2, 0.3), _SMALL_RADII),
    "PGD-AT": Sweep("pgd_at", "training_epsilon", (0.1, 0.2, 0.3), _SMALL_RADII, _THREE_STEPS),
    "TRADES": Sweep("trades", "penalty_weight", (1.0, 3.0, 6.0), (1.0, 3.0, 6.0), _THREE_STEPS),
    "JARN on FGSM": Sweep("jarn_at", "adversarial_weight", _LIGHT_WEIGHTS, _LIGHT_WEIGHTS),
    "JARN on PGD": Sweep(
        "jarn_pgd_at", "adversarial_weight", _LIGHT_WEIGHTS, _LIGHT_WEIGHTS, _THREE_STEPS
    ),
}

_ROWS = tuple(dict.fromkeys(sweep.row for sweep in SWEEPS.values()))

#: Epochs of plain training that every point costs.
_BUDGET = {"mnist": 24, "digits": 100, "svhn": 12, "cifar10": 12}
_SMOKE_BUDGET = 2
_IMAGES = 500


def cost(config: Config) -> float:
    """What a step costs beside a plain one, from forward passes; JARN's and penalties' measured."""
    regularizer = {"none": 0.0, "jarn": 1.6 * (1 - config.jarn_start_fraction)}
    attack = {"fgsm": 2 / 3, "pgd": 2 * config.attack_steps / 3}
    attack["pgd_kl"] = attack["pgd"] + 1 / 3  # the predictions that it starts from
    return 1.0 + attack.get(config.perturbation, 0.0) + regularizer.get(config.regularizer, 1.2)


def _points(setting: Setting) -> Iterator[tuple[str, float]]:
    for name, sweep in SWEEPS.items():
        if sweep.row in setting.rows:
            digits = setting.dataset in ("digits", "mnist")
            for strength in sweep.digits if digits else sweep.natural:
                yield name, strength


def changes(setting: Setting, name: str, strength: float) -> dict[str, Any]:
    """What a point changes in its row; as many epochs as the budget pays for."""
    sweep = SWEEPS[name]
    changed = sweep.changes | {sweep.strength: strength}
    budget = _SMOKE_BUDGET if setting.scale == "smoke" else _BUDGET[setting.dataset]
    epochs = max(1, round(budget / cost(setting.config(sweep.row, 0, **changed))))
    return changed | {"epochs": epochs, "robust_every": epochs}


def cells(setting: Setting) -> list[Cell]:
    """One cell a defense and strength with the first seed, one a defense with each other seed.

    Raises:
        ValueError: A row that no sweep is made of.
    """
    for row in setting.rows:
        refuse_other_row(row, _ROWS)
    first, *others = setting.seeds
    points = list(_points(setting))
    names = dict.fromkeys(name for name, _ in points)
    return [
        Cell(
            f"{name}, strength {strength:g}, seed {first}",
            first,
            1.0,
            functools.partial(_cell, setting, name, strength, first),
        )
        for name, strength in points
    ] + [
        Cell(
            f"{name}, chosen strength, seed {seed}",
            seed,
            1.0,
            functools.partial(_chosen_cell, setting, name, seed),
        )
        for seed in others
        for name in names
    ]


def chosen(setting: Setting, found: dict[str, Any], name: str) -> float:
    """The strength of a defense that withstands most validation images with the first seed."""
    of_defense = {
        result["strength"]: statistics.fmean(result["validation"])
        for result in found.values()
        if result["defense"] == name and result["seed"] == setting.seeds[0]
    }
    return max(of_defense, key=of_defense.__getitem__)


def _chosen_cell(setting: Setting, name: str, seed: int) -> dict:
    found = results.read(setting)["cells"]
    return _cell(setting, name, chosen(setting, found, name), seed)


def _cell(setting: Setting, name: str, strength: float, seed: int) -> dict:
    changed = changes(setting, name, strength)
    config = setting.config(SWEEPS[name].row, seed, **changed)
    workdir = models.workdir(setting, SWEEPS[name].row, seed, changed)
    minutes = models.timed(config, workdir)
    radii = models.RADII[setting.epsilon]
    dataset = models.dataset(setting)
    validation = dataset.validation.first(_IMAGES)
    target = evaluating.finished_run(workdir)
    asked = ([Attack("autoattack", radius) for radius in radii], min(_IMAGES, len(dataset.test)))
    tested = evaluations.find(workdir, *asked, dataset.classes, max(radii)) or evaluating.evaluate(
        target, *asked, setting.data_dir, max(radii)
    )
    values = {
        f"AutoAttack {models.radius_label(setting, row['epsilon'])}": 100 * row["accuracy"]
        for row in tested["attacks"]
        if row["name"] == "autoattack"
    }
    (clean,) = (row["accuracy"] for row in tested["attacks"] if row["name"] == "clean")
    sweep = SWEEPS[name]
    penalty = [name] if "regularizer" in sweep.changes else []
    label = ", ".join([sweep.row, *penalty, f"{sweep.strength} {strength:g}"])
    return {
        "values": {label: {"clean": 100 * clean} | values | {"CPU minutes": minutes}},
        "defense": name,
        "strength": strength,
        "validation": list(models.withstood(setting, target.classifier, validation).values()),
        "notes": [f"{name}, {strength:g}, seed {seed}: gradients {tested['verdict']['label']}."],
    }


def draw(setting: Setting, found: dict, path: pathlib.Path) -> None:
    """A panel a radius, a curve a defense over its strength: the first seed's points.

    A ring marks the strength that validation images chose, crosses the other seeds'.
    """
    radii = models.RADII[setting.epsilon]
    figure = matplotlib.figure.Figure((2.5 + 4.2 * len(radii), 4.4), dpi=110)
    panels = figure.subplots(1, len(radii), squeeze=False)[0]
    for axis, radius in zip(panels, radii):
        column = f"AutoAttack {models.radius_label(setting, radius)}"
        for index, name in enumerate(dict.fromkeys(name for name, _ in _points(setting))):
            _draw_curve(axis, setting, found, name, column, f"C{index}")
        axis.set_title(models.radius_label(setting, radius), fontsize=11)
        axis.set_xlabel("clean accuracy, %")
        axis.grid(alpha=0.3)
    panels[0].set_ylabel("accuracy under AutoAttack, %")
    panels[-1].legend(fontsize=8, loc="upper left", bbox_to_anchor=(1.02, 1))
    figure.tight_layout()
    figure.savefig(path)


def _draw_curve(axis, setting: Setting, found: dict, name: str, column: str, color: str) -> None:
    of_defense = [result for result in found.values() if result["defense"] == name]
    first = setting.seeds[0]

    def places(chosen_ones):
        rows = [row for result in chosen_ones for row in result["values"].values()]
        return np.array([[row["clean"], row[column]] for row in rows]).reshape(-1, 2).T

    curve = sorted((r for r in of_defense if r["seed"] == first), key=lambda r: r["strength"])
    axis.plot(*places(curve), "o-", color=color, markersize=3, label=name)
    best = chosen(setting, found, name)
    axis.plot(
        *places([r for r in curve if r["strength"] == best]), "o", color=color, fillstyle="none"
    )
    axis.plot(*places([r for r in of_defense if r["seed"] != first]), "x", color=color)


TRADEOFF = Experiment(
    "Clean accuracy against accuracy under AutoAttack (%), over the strength of each defense",
    "mnist",
    _ROWS,
    cells,
    draw=draw,
    preset="recommended",
)
