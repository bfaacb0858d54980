"""Beyond the paper: what each option of JARN does on natural images, one changed at a time.

All of a seed train on the same images for as many epochs, beside double backpropagation, noise,
and noise for twice as many, which costs about as much. Figures are of validation images, as
settings are chosen by them.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import Any

from jarn_tf.evaluation import jacobian_image_correlation
from jarn_tf.reproduction import models
from jarn_tf.reproduction.experiment import Experiment
from jarn_tf.reproduction.results import Cell
from jarn_tf.reproduction.setting import Setting
from jarn_tf.runs.settings import Optimizer
from jarn_tf.runs.workdir import Workdir

_IMAGES = 500
#: Short runs, many of them; at smoke scale one epoch for three.
_SHORT: dict[str, Any] = {"train_examples": 20_000, "epochs": 3}
#: Where the search starts: what `recommended` of MNIST had then, on `recommended` of CIFAR-10.
_START: dict[str, Any] = {
    "jacobian_of": "logit",
    "adversarial_weight": 0.05,
    "regularization_interval": 1,
}
_WEAK: dict[str, Any] = {
    "discriminator_filters": (8, 16),
    "discriminator_optimizer": Optimizer("adam", 1e-4),
}

_MARGIN: dict[str, Any] = {"jacobian_of": "margin"}
_LAZY: dict[str, Any] = {"regularization_interval": 4}
_TWICE: dict[str, Any] = {"epochs": 2 * _SHORT["epochs"]}


def _double_backprop(weight: float) -> dict[str, Any]:
    return {
        "regularizer": "double_backprop",
        "penalty_weight": weight,
        "regularization_interval": 1,
    }


#: Row to name of a variant to what it changes in the row's settings.
_VARIANTS: dict[str, dict[str, dict[str, Any]]] = {
    "uniform_noise": {
        "as many epochs": {},
        "twice the epochs": _TWICE,
        "double backprop 0.01": _double_backprop(0.01),
        "double backprop 0.03": _double_backprop(0.03),
        "double backprop 0.03, twice the epochs": _double_backprop(0.03) | _TWICE,
        "double backprop 0.03, every 4th step, twice the epochs": _double_backprop(0.03)
        | _LAZY
        | _TWICE,
        "double backprop 0.1": _double_backprop(0.1),
        "double backprop 0.1, every 4th step, twice the epochs": _double_backprop(0.1)
        | _LAZY
        | _TWICE,
        "double backprop 0.3": _double_backprop(0.3),
    },
    "jarn": {
        "start": {},
        "J of the loss": {"jacobian_of": "loss"},
        "J of the margin": _MARGIN,
        "J of the margin, weight 0.1": _MARGIN | {"adversarial_weight": 0.1},
        "J of the margin, weight 0.2": _MARGIN | {"adversarial_weight": 0.2},
        "J of the margin, weight 0.5": _MARGIN | {"adversarial_weight": 0.5},
        "J of the margin, all images noisy": _MARGIN | {"noise_fraction": 1.0},
        "J of the margin, every 4th step, twice the epochs": _MARGIN | _LAZY | _TWICE,
        "J of the margin, weight 0.1, every 4th step, twice the epochs": _MARGIN
        | _LAZY
        | _TWICE
        | {"adversarial_weight": 0.1},
        "minimax": {"gan_loss": "minimax"},
        "weight 0.5": {"adversarial_weight": 0.5},
        "weight 5": {"adversarial_weight": 5.0},
        "from the first step": {"jarn_start_fraction": 0.0},
        "all images noisy": {"noise_fraction": 1.0},
        "weak discriminator": _WEAK | {"discriminator_interval": 20},
        "R1 penalty 1": {"discriminator_penalty": 1.0},
        "noise on what it sees": {"discriminator_noise": 1.0},
        "patches": {"discriminator_patches": True},
        "real images centred": {"real_images": "centred"},
        "real images blurred": {"real_images": "blurred"},
        "real images grey": {"real_images": "grey"},
        "adaptor trainable": {"adaptor_trainable": True},
        "adaptor gain 10": {"adaptor_gain": 10.0},
        "adaptor gain 30": {"adaptor_gain": 30.0},
        "adaptor gain 30, weight 0.02": {"adaptor_gain": 30.0, "adversarial_weight": 0.02},
        "each image standardised": {"normalization": "image"},
        "ReLU": {"activation": "relu"},
        "every 4th step": _LAZY,
        "penalty 0.03 on J of the loss": {"jacobian_of": "loss", "jacobian_penalty": 0.03},
        "game evened out": _WEAK
        | {
            "jacobian_of": "margin",
            "real_images": "centred",
            "adaptor_gain": 30.0,
            "discriminator_penalty": 1.0,
            "discriminator_noise": 1.0,
        },
    },
}


def variants(setting: Setting, row: str) -> Mapping[str, dict[str, Any]]:
    """Name of each variant of a row to what it changes in the row's settings."""
    base = _SHORT | (_START if row == "jarn" else {})
    found = {}
    for name, changes in _VARIANTS[row].items():
        changes = base | changes
        if setting.scale == "smoke":
            changes = changes | {"epochs": changes["epochs"] // _SHORT["epochs"]}
            del changes["train_examples"]
        found[name] = changes | {"robust_every": changes["epochs"]}
    return found


def cells(setting: Setting) -> list[Cell]:
    """One cell a variant and seed."""
    return [
        Cell(
            f"{row}, {name}, seed {seed}",
            seed,
            1.0,
            functools.partial(_cell, setting, row, name, changes, seed),
            setting.config(row, seed, **changes),
            {"judged on": _IMAGES},
        )
        for seed in setting.seeds
        for row in setting.rows
        for name, changes in variants(setting, row).items()
    ]


def _cell(setting: Setting, row: str, name: str, changes: dict[str, Any], seed: int) -> dict:
    workdir = models.workdir(setting, row, seed, changes)
    minutes = models.timed(setting.config(row, seed, **changes), workdir)
    classifier = models.classifier(workdir)
    validation = models.dataset(setting).validation.first(_IMAGES)
    history = Workdir(workdir).epochs()[-1]
    columns = models.withstood(setting, classifier, validation)
    if "discriminator_adapted_accuracy" in history:
        columns["J' told from images"] = 100 * history["discriminator_adapted_accuracy"]
    correlation = jacobian_image_correlation(
        classifier, validation.floats, validation.labels, of="logit"
    )
    columns |= {"correlation of J with the image": correlation, "CPU minutes": minutes}
    return {"values": {f"{row}, {name}": columns}}


LEVERS = Experiment(
    "Options of JARN on natural images: accuracy (%) of validation images under PGD-20",
    "cifar10",
    tuple(_VARIANTS),
    cells,
    preset="recommended",
    variants=True,
)
