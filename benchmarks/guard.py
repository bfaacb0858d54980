"""Fails where a step or `fit` has become clearly slower beside what it needs.

Ratios of CPU time within this process, the least over the rounds of each side, against recorded
ones; never seconds. `make guard` runs it.
"""

from __future__ import annotations

import functools
import sys

import keras
import numpy as np

from benchmarks import cost_model, fit, timing
from jarn_tf import JARN, Defense

ROUNDS = 5
#: What `python -m benchmarks.guard` printed on 27 November 2026, 2 CPUs (x86_64).
RECORDED = {
    "Uniform Noise, step / floor": 0.98,
    "Double Backprop, step / floor": 1.01,
    "JARN at rest, step / floor": 1.01,
    "PGD-AT7, step / floor": 0.97,
    "fit, 10 steps a call / a loop of one's own": 0.52,
}
#: A clear regression, beyond what other jobs and processors make of the ratios.
ALLOWED = 1.4
STEPS = {
    "Uniform Noise": ("uniform_noise", Defense.CLASSIFIER),
    "Double Backprop": ("double_backprop", Defense.CLASSIFIER),
    "JARN at rest": ("jarn", JARN.ADVERSARIAL),
    "PGD-AT7": ("pgd_at", Defense.CLASSIFIER),
}
IMAGE_SHAPE, FIT_STEPS = (4, 4, 1), 300


def main() -> None:
    keras.utils.set_random_seed(cost_model.SEED)
    timing.print_circumstances(cost_model.SEED)
    found = {}
    taken, floors = cost_model.measured("mnist_cnn", STEPS.values(), ROUNDS)
    for name, step in STEPS.items():
        found[f"{name}, step / floor"] = least(taken[step]) / least(floors[step])
    data = fit.batches(IMAGE_SHAPE)
    ours = fit.defense(fit.tiny(IMAGE_SHAPE), steps_per_execution=10)
    options = {"steps_per_epoch": FIT_STEPS, "shuffle": False, "verbose": 0}
    sides = {
        "loop": fit.loop(fit.tiny(IMAGE_SHAPE), data, FIT_STEPS),
        "fit": functools.partial(ours.fit, data, **options),
    }
    taken = timing.seconds(sides, ROUNDS)
    found["fit, 10 steps a call / a loop of one's own"] = least(taken["fit"]) / least(taken["loop"])
    for name, ratio in found.items():
        print(f"{name:<44}{ratio:>6.2f}, recorded {RECORDED[name]:.2f}")
    slower = [name for name, ratio in found.items() if ratio > ALLOWED * RECORDED[name]]
    if slower:
        sys.exit(f"More than {ALLOWED} times what was recorded: {'; '.join(slower)}.")


def least(seconds: np.ndarray) -> float:
    return seconds[timing.CPU].min()


if __name__ == "__main__":
    main()
