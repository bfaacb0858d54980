"""Beyond the paper: catastrophic overfitting to FGSM's single step, and what prevents it.

Table 3 of the paper has 0.01 % under PGD-20 for FGSM-AT1 and 46.7 % for JARN-AT1: FGSM-AT1 overfits
and JARN would cure it. Here both train beside what is known to help: a random start (Wong et al.,
2020), N-FGSM (de Jorge et al., 2022), gradient alignment (Andriushchenko & Flammarion, 2020), and
several steps. Every variant is trained and attacked at one radius, for the same number of epochs.
"""

from __future__ import annotations

import dataclasses
import functools
import pathlib
from typing import Any

import matplotlib.figure
import numpy as np

from jarn_tf.reproduction import models
from jarn_tf.reproduction.experiment import Experiment
from jarn_tf.reproduction.results import Cell
from jarn_tf.reproduction.setting import ROWS, Setting
from jarn_tf.runs.config import declarations
from jarn_tf.runs.workdir import Workdir

#: FGSM-AT1 overfits at large radii, so CIFAR-10 and SVHN have a second one.
_RADII = {
    "digits": (0.3,),
    "mnist": (0.3,),
    "svhn": (8 / 255, 16 / 255),
    "cifar10": (8 / 255, 16 / 255),
}
#: Weight of gradient alignment in the reference; at other radii the preset's.
_ALIGNMENT = {16 / 255: 2.0}
_PGD_STEPS = 3
#: Factors on the preset's weight of JARN.
_WEIGHTS = (0.1, 1, 10)
#: What all variants have as FGSM-AT1 has it.
_SHARED = (
    "epochs",
    "pixel_scale",
    "classifier_optimizer",
    "classifier_decay",
    "epsilon_warmup_fraction",
)
_STYLES = {"fgsm_at": "-", "jarn_at": "--", "pgd_at": ":"}


def variants(setting: Setting, row: str, radius: float) -> dict[str, dict[str, Any]]:
    """Name of each variant of a row to what it changes in the row's settings."""
    if row == "fgsm_at":
        found = _of_fgsm(radius)
    elif row == "jarn_at":
        found = _of_jarn(setting)
    else:
        step_size = round(2 * radius / _PGD_STEPS, 6)
        steps = {"attack_steps": _PGD_STEPS, "attack_step_size": step_size}
        found = {f"{_PGD_STEPS} steps": steps}
    base = setting.config("fgsm_at", 0)
    shared = {name: getattr(base, name) for name in _SHARED}
    shared |= {"epsilon": radius, "training_epsilon": radius}
    return {
        name: _needed(setting, row, shared | {"attack_random_start": False} | changes)
        for name, changes in found.items()
    }


def _of_fgsm(radius: float) -> dict[str, dict[str, Any]]:
    alignment: dict[str, Any] = {"regularizer": "gradient_alignment"}
    if radius in _ALIGNMENT:
        alignment["penalty_weight"] = _ALIGNMENT[radius]
    return {
        "no random start": {},
        "random start": {"attack_random_start": True},
        "N-FGSM": {"perturbation": "n_fgsm"},
        "gradient alignment": alignment,
    }


def _of_jarn(setting: Setting) -> dict[str, dict[str, Any]]:
    """As the preset has it, at several weights from the first step on, with our options."""
    own = setting.config("jarn_at", 0)
    found: dict[str, dict[str, Any]] = {
        f"weight {own.adversarial_weight:g} from {own.jarn_start_fraction:.0%} on": {}
    }
    for factor in _WEIGHTS:
        weight = round(factor * own.adversarial_weight, 6)
        changes = {"adversarial_weight": weight, "jarn_start_fraction": 0.0}
        found[f"weight {weight:g} from 0% on"] = changes
    recommended = dataclasses.replace(setting, preset="recommended").config("jarn_at", 0)
    found["recommended options"] = {
        name: getattr(recommended, name)
        for name, declared in declarations().items()
        if "jarn" in declared.only.get("regularizer", ())
    }
    return found


def _needed(setting: Setting, row: str, changes: dict[str, Any]) -> dict[str, Any]:
    """The changes without those that change nothing, so that tables and variants share models."""
    wanted = setting.config(row, 0, **changes)
    for name in tuple(changes):
        rest = {other: value for other, value in changes.items() if other != name}
        if setting.config(row, 0, **rest) == wanted:
            changes = rest
    return changes


def cells(setting: Setting) -> list[Cell]:
    """One cell a variant, radius and seed.

    Raises:
        ValueError: A row that has no variants.
    """
    return [
        Cell(
            f"{ROWS[row]}, {_point(setting, variant, radius)}, seed {seed}",
            seed,
            models.training_cost(setting, row, seed, **changes),
            functools.partial(_cell, setting, row, variant, radius, changes, seed),
            setting.config(row, seed, **changes),
        )
        for seed in setting.seeds
        for radius in _RADII[setting.dataset]
        for row in setting.rows
        for variant, changes in variants(setting, row, radius).items()
    ]


def _point(setting: Setting, variant: str, radius: float) -> str:
    return f"{variant}, {models.radius_label(setting, radius)}"


def _cell(
    setting: Setting, row: str, variant: str, radius: float, changes: dict[str, Any], seed: int
) -> dict:
    workdir = models.trained(setting, row, seed, **changes)
    curve = _validation_accuracies(workdir)
    values = models.accuracies(setting, workdir, radius) | {
        "PGD-10 of the best epoch (validation)": max(curve),
        "of the last": curve[-1],
    }
    return {
        "values": {f"{row}, {_point(setting, variant, radius)}": values},
        "curve": curve,
        "notes": models.collapse_notes(
            setting, row, _point(setting, variant, radius), seed, **changes
        ),
    }


def _validation_accuracies(workdir: pathlib.Path) -> list[float]:
    """Accuracy in % after each epoch of a run, under PGD-10 on 500 validation images."""
    return [100 * epoch["val_robust_accuracy"] for epoch in Workdir(workdir).epochs()]


def draw(setting: Setting, results: dict, path: pathlib.Path) -> None:
    """A panel a radius, a line a variant: the mean over seeds, and their range."""
    radii = _RADII[setting.dataset]
    figure = matplotlib.figure.Figure((2.5 + 5 * len(radii), 4.2), dpi=110)
    panels = figure.subplots(1, len(radii), sharey=True, squeeze=False)[0]
    for axis, radius in zip(panels, radii):
        _draw_panel(axis, setting, results, radius)
    panels[0].set_ylabel("accuracy under PGD-10, %")
    panels[0].set_ylim(0, 100)
    panels[-1].legend(fontsize=8, loc="upper left", bbox_to_anchor=(1.02, 1))
    figure.tight_layout()
    figure.savefig(path)


def _draw_panel(axis, setting: Setting, results: dict, radius: float) -> None:
    for row in setting.rows:
        for variant in variants(setting, row, radius):
            label = f"{row}, {_point(setting, variant, radius)}"
            curves = np.array([r["curve"] for r in results.values() if label in r["values"]])
            epochs = range(1, curves.shape[1] + 1)
            name = f"{ROWS[row]}, {variant}"
            axis.plot(epochs, curves.mean(axis=0), _STYLES[row], label=name)
            axis.fill_between(epochs, curves.min(axis=0), curves.max(axis=0), alpha=0.15)
    axis.set_title(models.radius_label(setting, radius), fontsize=11)
    axis.set_xlabel("epoch")
    axis.grid(alpha=0.3)


OVERFITTING = Experiment(
    "Catastrophic overfitting: accuracy (%) at the radius that is trained at",
    "cifar10",
    tuple(_STYLES),
    cells,
    draw=draw,
    variants=True,
)
