"""What the benchmarks share: interleaved rounds, medians of ratios, the circumstances of a run.

Seconds depend on the machine and on its other jobs. So everything that is compared runs side by
side in one process, a little of each per round, and a ratio is the median over the rounds of the
ratio within a round: what slows the machine down for a while hits both sides alike.
"""

from __future__ import annotations

import os
import platform
import time
from collections.abc import Callable, Mapping

import keras
import numpy as np
import tensorflow as tf


def print_circumstances(seed: int) -> None:
    """Prints hardware, load, versions and seed."""
    load = os.getloadavg()[0]
    gpus = len(tf.config.list_physical_devices("GPU"))
    print(
        f"{os.cpu_count()} CPUs ({platform.machine()}, load {load:.1f}), {gpus} GPUs, seed {seed}"
    )
    versions = f"TensorFlow {tf.__version__}, Keras {keras.__version__}, NumPy {np.__version__}"
    print(f"Python {platform.python_version()}, {versions}")


def seconds(sides: Mapping[str, Callable[[], object]], rounds: int) -> dict[str, np.ndarray]:
    """Seconds [rounds] that each side takes; a first, unmeasured call compiles it."""
    for run in sides.values():
        run()
    taken = {name: np.empty(rounds) for name in sides}
    order = list(sides)
    for i in range(rounds):
        for name in order:
            begin = time.perf_counter()
            sides[name]()
            taken[name][i] = time.perf_counter() - begin
        order = order[1:] + order[:1]  # each side has every place in turn
    return taken


def repeated(step: Callable[[], object], times: int) -> Callable[[], None]:
    """A function that calls `step` so many times and waits for the last result."""

    def run() -> None:
        for _ in range(times):
            result = step()
        for tensor in tf.nest.flatten(result):
            tensor.numpy()

    return run


def print_head(what: str, unit: np.ndarray | None = None) -> None:
    """Prints the head of a table, with the median of what its ratios are multiples of."""
    in_unit = "" if unit is None else f" of {np.median(unit) * 1e3:.3g} ms"
    print(f"\n{what + in_unit:<58}{'median':>8}{'quartiles':>16}{'target':>14}")


def print_row(
    what: str,
    numerator: np.ndarray,
    denominator: np.ndarray,
    at_most: float | None = None,
    at_least: float | None = None,
) -> None:
    """Prints a line of a table: a ratio's median and quartiles over the rounds, and its target."""
    low, median, high = np.percentile(numerator / denominator, [25, 50, 75])
    target = "" if at_most is None else f"at most {at_most:g}"
    target = target if at_least is None else f"at least {at_least:g}"
    print(f"  {what:<56}{median:>8.3g}{f'{low:.3g} to {high:.3g}':>16}{target:>14}")
