"""Table 4: what an epoch of each defense costs.

The paper prints one figure a defense, averaged over training. JARN's term is active in the last
quarter alone, so a step of its active phase and the average over a whole run are two claims; both
are measured here. Steps of all defenses take turns in one process, and the median counts.
"""

from __future__ import annotations

import collections
import functools
import math
import time

import numpy as np
import tensorflow as tf

from jarn_tf.defense import Defense
from jarn_tf.reproduction.experiment import Experiment
from jarn_tf.reproduction.published import SECONDS_AN_EPOCH
from jarn_tf.reproduction.results import Cell
from jarn_tf.reproduction.setting import CLASSES, IMAGES, ROWS, Setting
from jarn_tf.runs.builders import build_model
from jarn_tf.runs.config import Config

_ROUNDS = {"smoke": 1, "small": 7, "full": 7}
_PHASE = 10**9  # a number of steps that no phase ends within


def cells(setting: Setting) -> list[Cell]:
    """One cell a seed: the rows on the network of the dataset, random images in place of its own.

    PGD-AT7, which the ratios are to, is always among them.
    """
    network = setting.config("pgd_at", 0).network
    rows = tuple(dict.fromkeys((*setting.rows, "pgd_at")))
    return [
        Cell(
            f"{network}: {', '.join(rows)}, seed {seed}",
            seed,
            1.0,
            functools.partial(_cell, setting, network, rows, seed),
        )
        for seed in setting.seeds
    ]


def _cell(setting: Setting, network: str, rows: tuple[str, ...], seed: int) -> dict:
    image_shape, examples = IMAGES[setting.dataset]
    configs = {row: setting.config(row, seed) for row in rows}
    batch_size = configs["pgd_at"].batch_size
    rng = np.random.default_rng(seed)
    batch = (
        tf.constant(rng.random((batch_size, *image_shape), np.float32)),
        tf.constant(rng.integers(0, CLASSES, batch_size, np.int32)),
    )
    steps, counts = {}, {}
    for row, config in configs.items():
        model = build_model(config, image_shape, CLASSES, _PHASE)
        counts[row] = _kinds(model)
        for kind in counts[row]:
            steps[row, kind] = tf.function(functools.partial(model.train_step, batch, kind))
    seconds = _medians(steps, _ROUNDS[setting.scale])
    per_epoch = examples // batch_size
    values = {
        row: _costs(
            config, counts[row], {k: s for (r, k), s in seconds.items() if r == row}, per_epoch
        )
        for row, config in configs.items()
    }
    for columns in values.values():
        for column in ("active step", "epoch"):
            columns[f"{column} / {ROWS['pgd_at']}"] = (
                columns[f"{column}, s"] / values["pgd_at"][f"{column}, s"]
            )
    return {"values": {f"{row}, {network}": columns for row, columns in values.items()}}


def _medians(steps: dict, rounds: int) -> dict:
    """Median seconds of each step; the steps take turns, after one call each to compile."""
    for step in steps.values():
        step()
    taken: dict = {name: [] for name in steps}
    for _ in range(rounds):
        for name, step in steps.items():
            started = time.perf_counter()
            tf.nest.map_structure(lambda tensor: tensor.numpy(), step())
            taken[name].append(time.perf_counter() - started)
    return {name: float(np.median(times)) for name, times in taken.items()}


def _kinds(model: Defense) -> dict[str, int]:
    """The kind of step before the phase to 0, those of the phase to how many a period has."""
    period = math.prod(
        getattr(model, name, 1) for name in ("regularization_interval", "discriminator_interval")
    )
    first = getattr(model, "start_step", 0)
    of_phase = collections.Counter(model.kind_of_step(first + step) for step in range(period))
    return {model.kind_of_step(0): 0} | of_phase


def _costs(
    config: Config, counts: dict[str, int], seconds: dict[str, float], steps_per_epoch: int
) -> dict[str, float]:
    before = seconds[next(iter(counts))]
    active = sum(seconds[kind] * n for kind, n in counts.items()) / sum(counts.values())
    share = 1 - config.jarn_start_fraction if config.regularizer == "jarn" else 1.0
    epoch = steps_per_epoch * (share * active + (1 - share) * before)
    return {"active step, s": active, "epoch, s": epoch}


def published(setting: Setting, row: str, column: str) -> float | None:
    """Seconds on the authors' machine, for their Wide-ResNet, and their ratio to PGD-AT7."""
    name, network = row.split(", ")
    if network != "wide_resnet" or name not in SECONDS_AN_EPOCH:
        return None
    if column == "epoch, s":
        return SECONDS_AN_EPOCH[name]
    if column == f"epoch / {ROWS['pgd_at']}":
        return round(SECONDS_AN_EPOCH[name] / SECONDS_AN_EPOCH["pgd_at"], 3)
    return None


TABLE4 = Experiment(
    "Table 4: seconds of training",
    "cifar10",
    ("standard", "pgd_at", "jarn_at", "fgsm_at", "jarn"),
    cells,
    published,
)
