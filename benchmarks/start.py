"""How long it takes until a command answers, the library is imported, and a run takes a step.

Each is a process of its own, started in turn; printed is the least wall and CPU time of several.
The last rows go further one by one, so that each shows what is added to the one before: importing
TensorFlow, the library, reading MNIST from TFDS's folder, building and compiling the default run.

Run as `python -m benchmarks.start`; it needs MNIST prepared by TFDS.
"""

from __future__ import annotations

import pathlib
import resource
import subprocess
import sys
import tempfile
import time

import numpy as np

from benchmarks import timing

ROOT = pathlib.Path(__file__).parents[1]
ROUNDS = 3
_COMMANDS = ("train", "evaluate", "reproduce")
_LOADED = "import jarn_tf; jarn_tf.data.load('mnist')"
#: The command up to the end of its first step, in the folder that it is told.
_STEPPED = """
import os, sys
from launch import import_library, train
import_library()
import keras
from jarn_tf import Defense

class Stop(keras.callbacks.Callback):
    def on_train_batch_end(self, batch, logs=None):
        os._exit(0)

def fit(model, data, callbacks, **options):
    return whole_fit(model, data, callbacks=[*callbacks, Stop()], **options)

whole_fit, Defense.fit = Defense.fit, fit
sys.argv = ["launch.train", "--dataset=mnist", f"--workdir={sys.argv[1]}"]
train.run()
"""


def main() -> None:
    timing.print_circumstances(seed=0)
    programs = {
        **{f"launch.{m} --help": ["-m", f"launch.{m}", "--help"] for m in _COMMANDS},
        "launch.train --epsilon=8, refused": ["-m", "launch.train", "--epsilon=8"],
        "import tensorflow": ["-c", "import tensorflow"],
        "import jarn_tf": ["-c", "import jarn_tf"],
        "import jarn_tf, load MNIST": ["-c", _LOADED],
        "launch.train --dataset=mnist, first step": ["-c", _STEPPED],
    }
    taken = {name: [] for name in programs}
    for _ in range(ROUNDS):
        for name, arguments in programs.items():
            taken[name].append(seconds(arguments))
    print(f"{'':<44}{'wall, s':>10}{'CPU, s':>10}")
    for name, rounds in taken.items():
        wall, cpu = np.min(rounds, axis=0)
        print(f"{name:<44}{wall:>10.2f}{cpu:>10.2f}")


def seconds(arguments: list[str]) -> tuple[float, float]:
    """Wall and CPU seconds of Python with these arguments, and a new folder's name as the last."""
    with tempfile.TemporaryDirectory() as folder:
        begin = time.perf_counter(), cpu_of_children()
        command = [sys.executable, *arguments]
        command += [folder] if arguments[0] == "-c" else []
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
        if "Traceback" in done.stderr:
            raise RuntimeError(done.stderr)
        return time.perf_counter() - begin[0], cpu_of_children() - begin[1]


def cpu_of_children() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


if __name__ == "__main__":
    main()
