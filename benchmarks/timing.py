"""What the benchmarks share: interleaved rounds, medians of ratios, the circumstances of a run.

Seconds depend on the machine and on its other jobs. So everything that is compared runs side by
side in one process, a little of each per round, and a ratio is the median over the rounds of the
ratio within a round: what slows the machine down for a while hits both sides alike. Ratios of the
process's CPU time stand beside those of wall time: other jobs disturb them less, and they do not
see how well a side keeps all cores busy.
"""

from __future__ import annotations

import concurrent.futures
import multiprocessing
import os
import pathlib
import platform
import re
import time
from collections.abc import Callable, Mapping

import keras
import numpy as np
import tensorflow as tf

WALL, CPU = 0, 1


def print_circumstances(seed: int) -> None:
    """Prints hardware, load, versions and seed."""
    load, gpus = os.getloadavg()[0], len(tf.config.list_physical_devices("GPU"))
    print(
        f"{os.cpu_count()} CPUs ({platform.machine()}), load {load:.1f}, {gpus} GPUs, seed {seed}"
    )
    versions = f"TensorFlow {tf.__version__}, Keras {keras.__version__}, NumPy {np.__version__}"
    print(f"Python {platform.python_version()}, {versions}", flush=True)


def in_a_process(work: Callable, *arguments: object):
    """What a function of a module returns in a new process."""
    spawn = multiprocessing.get_context("spawn")
    with concurrent.futures.ProcessPoolExecutor(1, spawn) as process:
        return process.submit(work, *arguments).result()


def memory(kind: str) -> float:
    """MiB of memory of this process: `VmRSS` now, `VmHWM` at its peak, `RssAnon` not of files."""
    # Not `ru_maxrss`: that starts at the memory of the process that this one was started from.
    status = pathlib.Path("/proc/self/status").read_text()
    return int(re.search(rf"{kind}:\s*(\d+) kB", status)[1]) / 2**10


def seconds(sides: Mapping[str, Callable[[], object]], rounds: int) -> dict[str, np.ndarray]:
    """Wall and CPU seconds [2, rounds] of each side; a first, unmeasured call compiles it."""
    for run in sides.values():
        run()
    taken = {name: np.empty((2, rounds)) for name in sides}
    order = list(sides)
    for i in range(rounds):
        for name in order:
            begin = time.perf_counter(), time.process_time()
            sides[name]()
            end = time.perf_counter(), time.process_time()
            taken[name][:, i] = np.subtract(end, begin)
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
    in_unit = "" if unit is None else f" of {np.median(unit[WALL]) * 1e3:.3g} ms"
    print(f"\n{what + in_unit:<66}{'wall':>8}{'quartiles':>18}{'CPU':>8}{'target':>12}")


def print_row(what: str, numerator: np.ndarray, denominator: np.ndarray, target: str = "") -> None:
    """Prints a line of a table: the median ratio with its quartiles over the rounds."""
    ratios = numerator / denominator
    low, median, high = np.percentile(ratios[WALL], [25, 50, 75])
    quartiles = f"{low:.3g} to {high:.3g}"
    cpu = np.median(ratios[CPU])
    print(f"  {what:<64}{median:>8.3g}{quartiles:>18}{cpu:>8.3g}{target:>12}", flush=True)
