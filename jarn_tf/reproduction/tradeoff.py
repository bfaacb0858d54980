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

from jarn_tf.evaluation import Attack, masking_verdict, robustness
from jarn_tf.reproduction import models, results
from jarn_tf.reproduction.experiment import Experiment, refuse_other_row
from jarn_tf.reproduction.results import Cell
from jarn_tf.reproduction.setting import Setting


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

#: CPU time of a step on digits and on natural images beside one of noise, averaged over JARN's
#: schedule; measured on 2 cores with the networks of `recommended`, to a tenth or so.
COSTS = {
    "noise": (1.0, 1.0),
    "double backprop": (1.6, 2.3),
    "L1": (1.5, 2.1),
    "Frobenius": (1.7, 2.1),
    "JARN": (2.2, 2.1),
    "FGSM-AT": (1.2, 1.7),
    "PGD-AT": (2.1, 2.8),
    "TRADES": (2.7, 3.9),
    "JARN on FGSM": (1.6, 2.7),
    "JARN on PGD": (2.3, 3.8),
}
#: Epochs of plain training that every point costs.
_BUDGET = {"mnist": 12, "digits": 100, "svhn": 12, "cifar10": 12}
_SMOKE_BUDGET = 2
_IMAGES = 500


def _on_digits(setting: Setting) -> bool:
    return setting.dataset in ("digits", "mnist")


def _points(setting: Setting) -> Iterator[tuple[str, float]]:
    for name, sweep in SWEEPS.items():
        if sweep.row in setting.rows:
            for strength in sweep.digits if _on_digits(setting) else sweep.natural:
                yield name, strength


def changes(setting: Setting, name: str, strength: float) -> dict[str, Any]:
    """What a point changes in its row; as many epochs as the budget pays for."""
    sweep = SWEEPS[name]
    changed = sweep.changes | {sweep.strength: strength}
    budget = _SMOKE_BUDGET if setting.scale == "smoke" else _BUDGET[setting.dataset]
    epochs = max(1, round(budget / COSTS[name][not _on_digits(setting)]))
    return changed | {"epochs": epochs, "robust_every": epochs}


def cells(setting: Setting) -> list[Cell]:
    """One cell a defense and strength with the first seed, then two kinds a defense.

    Of the strength that was chosen one cell is the verdict, and one each other seed.

    Raises:
        ValueError: A row that no sweep is made of.
    """
    for row in setting.rows:
        refuse_other_row(row, _ROWS)
    first = setting.seeds[0]
    points = list(_points(setting))
    names = dict.fromkeys(name for name, _ in points)
    return [
        Cell(
            f"{name}, strength {strength:g}, seed {first}",
            first,
            1.0,
            functools.partial(_point, setting, name, strength, first),
            setting.config(SWEEPS[name].row, first, **changes(setting, name, strength)),
        )
        for name, strength in points
    ] + [
        Cell(
            f"{name}, chosen strength, seed {seed}",
            seed,
            1.0,
            functools.partial(_judged if seed == first else _again, setting, name, seed),
        )
        for seed in setting.seeds
        for name in names
    ]


def chosen(setting: Setting, found: dict[str, Any], name: str) -> float:
    """The strength of a defense that withstands most validation images with the first seed."""
    of_defense = {
        result["strength"]: statistics.fmean(result["validation"])
        for result in found.values()
        if "validation" in result
        and result["defense"] == name
        and result["seed"] == setting.seeds[0]
    }
    return max(of_defense, key=of_defense.__getitem__)


def _judged(setting: Setting, name: str, seed: int) -> dict:
    """The masking verdict on the strength that was chosen; its accuracies are there already."""
    strength = chosen(setting, results.read(setting)["cells"], name)
    workdir, _ = _trained(setting, name, strength, seed)
    test = models.dataset(setting).test.first(_IMAGES)
    verdict = masking_verdict(
        models.classifier(workdir),
        test.floats,
        test.labels,
        epsilon=max(models.RADII[setting.epsilon]),
    )
    note = f"{name}: validation images choose {SWEEPS[name].strength} {strength:g}; gradients"
    return {"values": {}, "defense": name, "notes": [f"{note} {verdict.label}."]}


def _again(setting: Setting, name: str, seed: int) -> dict:
    """The strength that was chosen, with another seed."""
    return _point(setting, name, chosen(setting, results.read(setting)["cells"], name), seed)


def _trained(
    setting: Setting, name: str, strength: float, seed: int
) -> tuple[pathlib.Path, float | None]:
    """The folder of a point's run, which is trained where it is not there; its CPU minutes."""
    row, changed = SWEEPS[name].row, changes(setting, name, strength)
    workdir = models.workdir(setting, row, seed, changed)
    return workdir, models.timed(setting.config(row, seed, **changed), workdir)


def _point(setting: Setting, name: str, strength: float, seed: int) -> dict:
    sweep = SWEEPS[name]
    workdir, minutes = _trained(setting, name, strength, seed)
    classifier = models.classifier(workdir)
    dataset = models.dataset(setting)
    test, validation = dataset.test.first(_IMAGES), dataset.validation.first(_IMAGES)
    attacks = [Attack("autoattack", radius) for radius in models.RADII[setting.epsilon]]
    attacks.append(Attack("clean", 0.0))
    tested = robustness(classifier, test.floats, test.labels, attacks)
    columns = {
        "clean" if row["name"] == "clean" else _column(setting, row["epsilon"]): row["accuracy"]
        for row in tested
        if row["name"] in ("clean", "autoattack")
    }
    penalty = [name] if "regularizer" in sweep.changes else []
    label = ", ".join([sweep.row, *penalty, f"{sweep.strength} {strength:g}"])
    return {
        "values": {
            label: {column: 100 * accuracy for column, accuracy in columns.items()}
            | {"CPU minutes": minutes}
        },
        "defense": name,
        "strength": strength,
        "validation": list(models.withstood(setting, classifier, validation).values()),
    }


def _column(setting: Setting, radius: float) -> str:
    return f"AutoAttack {models.radius_label(setting, radius)}"


def draw(setting: Setting, found: dict, path: pathlib.Path) -> None:
    """A panel a radius, a curve a defense over its strength: the first seed's points.

    A ring marks the strength that validation images chose, crosses the other seeds'.
    """
    radii = models.RADII[setting.epsilon]
    figure = matplotlib.figure.Figure((2.5 + 4.2 * len(radii), 4.4), dpi=110)
    panels = figure.subplots(1, len(radii), squeeze=False)[0]
    for axis, radius in zip(panels, radii):
        column = _column(setting, radius)
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
    of_defense = [r for r in found.values() if r["defense"] == name and "strength" in r]
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
