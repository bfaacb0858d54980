"""Beyond the paper: what robustness costs in clean accuracy, each defense over its strength.

Every point trains for about the same cost, which in whole epochs is up to an eighth off. The first
seed trains every strength and attacks test images with the gradient attacks of AutoAttack. The
strength of each defense that does best on validation images, averaged over clean ones and the
radii, is attacked with the whole AutoAttack, judged for masked gradients, and trained and attacked
with the other seeds, too.
"""

from __future__ import annotations

import dataclasses
import functools
import pathlib
import statistics
from collections.abc import Iterator
from typing import Any

import keras
import matplotlib.figure
import numpy as np

from jarn_tf.evaluation import masking_verdict
from jarn_tf.reproduction import models, results
from jarn_tf.reproduction.experiment import Experiment
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
#: The last is that of TRADES and of JARN on FGSM and PGD.
_DIGITS_RADII = (0.2, 0.3, 0.4)
_JARN_WEIGHTS = (0.03, 0.1, 0.3)
_LIGHT_WEIGHTS = ((0.005, 0.02), (0.03, 0.1))
#: At equal cost three steps leave time for more epochs than seven or ten.
_THREE_STEPS = {"attack_steps": 3, "attack_step_size": None}
#: The penalties are on noisy images, as JARN is.
SWEEPS = {
    "noise": Sweep("uniform_noise", "training_epsilon", (0.15, 0.3, 0.45), _SMALL_RADII),
    "double backprop": _penalty("double_backprop", (0.25, 1.0, 4.0), (0.01, 0.03, 0.1)),
    "L1": _penalty("l1_gradient", (0.03, 0.1, 0.3), _SMALL_RADII),
    "Frobenius": _penalty("frobenius", (0.005, 0.05, 0.5), (0.001, 0.01, 0.1)),
    "JARN": Sweep("jarn", "adversarial_weight", _JARN_WEIGHTS, _JARN_WEIGHTS),
    "FGSM-AT": Sweep("fgsm_at", "training_epsilon", _DIGITS_RADII, _SMALL_RADII),
    "PGD-AT3": Sweep("pgd_at", "training_epsilon", _DIGITS_RADII, _SMALL_RADII, _THREE_STEPS),
    "TRADES, 3 steps": Sweep("trades", "penalty_weight", (1.0, 3.0, 6.0), (1.0, 6.0), _THREE_STEPS),
    "JARN on FGSM-AT": Sweep("jarn_at", "adversarial_weight", *_LIGHT_WEIGHTS),
    "JARN on PGD-AT3": Sweep("jarn_pgd_at", "adversarial_weight", *_LIGHT_WEIGHTS, _THREE_STEPS),
}

#: Time of a step on digits and on natural images beside one of noise, averaged over JARN's
#: schedule; measured on one core with the networks of `recommended`, to a tenth or so.
COSTS = {
    "noise": (1.0, 1.0),
    "double backprop": (2.0, 1.4),
    "L1": (1.8, 1.4),
    "Frobenius": (1.8, 1.4),
    "JARN": (3.3, 1.4),
    "FGSM-AT": (1.7, 1.7),
    "PGD-AT3": (2.5, 3.0),
    "TRADES, 3 steps": (3.5, 4.3),
    "JARN on FGSM-AT": (2.0, 2.1),
    "JARN on PGD-AT3": (3.0, 3.3),
}
#: Epochs of training on noise that every point costs.
_BUDGET = {"mnist": 12, "digits": 100, "svhn": 12, "cifar10": 12}
_SMOKE_BUDGET = 2
#: On natural images; short epochs come nearer to equal costs.
_TRAINED_ON = 20_000
_IMAGES = 500
#: Twice the accuracy in % of guessing one of ten classes.
_GUESSED = 20.0
#: Of test images; AutoAttack takes minutes for these.
_ATTACKED = 200
#: Column to its attacks; the first two of AutoAttack's four take a third of its time.
_ATTACKS = {"APGD": ("apgd_ce", "apgd_t"), "AutoAttack": ("autoattack",)}


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
    changed |= {"epochs": epochs, "robust_every": epochs}
    if setting.scale != "smoke" and not _on_digits(setting):
        changed |= {"train_examples": _TRAINED_ON}
    return changed


def cells(setting: Setting) -> list[Cell]:
    """One cell a defense and strength with the first seed, then one a defense and seed."""
    first = setting.seeds[0]
    asked = {"tested on": _ATTACKED, "chosen and judged on": _IMAGES}
    sweep = {
        (name, strength): Cell(
            f"{name}, strength {strength:g}, seed {first}",
            first,
            1.0,
            functools.partial(_point, setting, name, strength),
            setting.config(SWEEPS[name].row, first, **changes(setting, name, strength)),
            asked,
        )
        for name, strength in _points(setting)
    }
    return list(sweep.values()) + [
        Cell(
            f"{name}, chosen strength, seed {seed}",
            seed,
            1.0,
            functools.partial(_judged, setting, name, seed),
            asked=asked,
            after=tuple(cell.name for (of, _), cell in sweep.items() if of == name),
        )
        for seed in setting.seeds
        for name in dict.fromkeys(name for name, _ in sweep)
    ]


def chosen(setting: Setting, found: dict[str, Any], name: str) -> float:
    """The strength of a defense that does best on validation images with the first seed.

    By the mean of the accuracies on clean images and at every radius.
    """
    of_defense = {
        result["strength"]: statistics.fmean(result["validation"])
        for result in found.values()
        if result["defense"] == name
        and "validation" in result
        and result["seed"] == setting.seeds[0]
    }
    return max(of_defense, key=of_defense.__getitem__)


def _point(setting: Setting, name: str, strength: float) -> dict:
    """A strength with the first seed: the gradient attacks on test images, and what chooses."""
    classifier, minutes = _trained(setting, name, strength, setting.seeds[0])
    validation = models.dataset(setting).validation.first(_IMAGES)
    columns = _attacked(setting, classifier, "APGD") | {"CPU minutes": minutes}
    return {
        "values": {_label(name, strength): columns},
        "defense": name,
        "strength": strength,
        "validation": list(models.withstood(setting, classifier, validation).values()),
    }


def _judged(setting: Setting, name: str, seed: int) -> dict:
    """The strength that was chosen, with any seed: AutoAttack, and the verdict of the first."""
    strength = chosen(setting, results.read(setting)["cells"], name)
    classifier, minutes = _trained(setting, name, strength, seed)
    columns = _attacked(setting, classifier, "AutoAttack") | {"CPU minutes": minutes}
    notes = []
    if seed == setting.seeds[0]:
        test = models.dataset(setting).test.first(_IMAGES)
        radius = max(models.RADII[setting.epsilon])
        verdict = masking_verdict(classifier, test.floats, test.labels, epsilon=radius)
        note = f"{name}: validation images choose {SWEEPS[name].strength} {strength:g}; gradients"
        notes = [f"{note} {verdict.label}."]
    return {
        "values": {_label(name, strength): columns},
        "defense": name,
        "strength": strength,
        "notes": notes,
    }


def _trained(
    setting: Setting, name: str, strength: float, seed: int
) -> tuple[keras.Model, float | None]:
    """The classifier of a point, trained where it is not there; the CPU minutes that took."""
    row, changed = SWEEPS[name].row, changes(setting, name, strength)
    workdir = models.workdir(setting, row, seed, changed)
    minutes = models.timed(setting.config(row, seed, **changed), workdir)
    return models.classifier(workdir), minutes


def _attacked(setting: Setting, classifier: keras.Model, column: str) -> dict[str, float]:
    """Share of test images, in %, right without an attack and under a column's at each radius."""
    test = models.dataset(setting).test.first(_ATTACKED)
    clean, *radii = models.withstood(setting, classifier, test, _ATTACKS[column]).items()
    return dict([clean, *((f"{column} {label}", share) for label, share in radii)])


def _label(name: str, strength: float) -> str:
    return f"{name}, {SWEEPS[name].strength} {strength:g}"


def draw(setting: Setting, found: dict, path: pathlib.Path) -> None:
    """A panel a radius, a curve a defense and first seed, over the strength, under APGD.

    A ring a seed is the strength that validation images chose, under AutoAttack.
    """
    names = [name for name in SWEEPS if any(r["defense"] == name for r in found.values())]
    radii = models.RADII[setting.epsilon]
    figure = matplotlib.figure.Figure((2.5 + 4.2 * len(radii), 4.4), dpi=110)
    panels = figure.subplots(1, len(radii), squeeze=False)[0]
    for axis, radius in zip(panels, radii):
        label = models.radius_label(setting, radius)
        for index, name in enumerate(names):
            of_defense = [result for result in found.values() if result["defense"] == name]
            axis.plot([], [], ".-", color=f"C{index}", label=name)
            for seed in {result["seed"] for result in of_defense}:
                of_seed = [result for result in of_defense if result["seed"] == seed]
                axis.plot(*_places(of_seed, f"APGD {label}"), ".-", color=f"C{index}")
            rings = _places(of_defense, f"AutoAttack {label}")
            axis.plot(*rings, "o", color=f"C{index}", fillstyle="none")
        axis.set_title(label, fontsize=11)
        axis.set_xlabel("clean accuracy, %")
        axis.grid(alpha=0.3)
    panels[0].set_ylabel("robust accuracy, %\ndots: APGD, rings: AutoAttack")
    panels[-1].legend(fontsize=8, loc="upper left", bbox_to_anchor=(1.02, 1))
    figure.tight_layout()
    figure.savefig(path)


def _places(of_defense: list[dict], column: str) -> np.ndarray:
    """Clean accuracies and those of a column [2, n], by strength, without what only guesses."""
    by_strength = sorted(of_defense, key=lambda result: result["strength"])
    rows = [row for result in by_strength for row in result["values"].values() if column in row]
    places = [[row["clean"], row[column]] for row in rows if row["clean"] > _GUESSED]
    return np.array(places).reshape(-1, 2).T


TRADEOFF = Experiment(
    "Clean and robust accuracy (%) of 200 test images, each defense over its strength, at about "
    "equal cost",
    "mnist",
    tuple(dict.fromkeys(sweep.row for sweep in SWEEPS.values())),
    cells,
    draw=draw,
    preset="recommended",
    variants=True,
)
