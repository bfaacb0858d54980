"""How alike the results of equal runs are: in fresh processes, on more threads, on more replicas.

A run of JARN on scikit-learn's digits, half of it in JARN's phase, in a new process each time.
Compared are all weights and optimizers' slots: their SHA-256, and the largest difference as a share
of the largest value of its variable. Then what `--deterministic` costs: JARN's step on random
images of MNIST's shape, with and without, a fresh process each in turn.

Run as `python -m benchmarks.determinism`.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import pathlib
import tempfile
import time

import keras
import numpy as np
import tensorflow as tf

from benchmarks import timing
from jarn_tf import JARN, callbacks, networks
from jarn_tf.runs import training
from jarn_tf.runs.presets import preset
from jarn_tf.runs.workdir import Workdir

SEED = 0
PROCESSES = 20
STEPS, ROUNDS, PAIRS = 20, 5, 5
SHORT = {"epochs": 4, "train_examples": 512, "test_examples": 64, "jarn_start_fraction": 0.5}


def main() -> None:
    timing.print_circumstances(SEED)
    first = trained()
    digests = {digest(first), *(digest(trained()) for _ in range(PROCESSES - 1))}
    print(f"\n{PROCESSES} processes: {len(digests)} SHA-256")
    changes = {
        "1 thread": {"threads": 1},
        "2 threads": {"threads": 2},
        "2 replicas": {"replicas": 2},
        "--deterministic": {"deterministic": True},
    }
    for name, change in changes.items():
        other = trained(**change)
        same = "the same" if digest(other) == digest(first) else "another"
        print(f"{name:<16} {same} SHA-256, difference {difference(first, other):.1e}", flush=True)
    ratios = [step_seconds(True) / step_seconds(False) for _ in range(PAIRS)]
    low, median, high = np.percentile(ratios, [0, 50, 100])
    print(f"--deterministic: a step takes {median:.3f} times as long ({low:.3f} to {high:.3f})")


def trained(threads: int = 0, **changes) -> list[np.ndarray]:
    """Weights and slots after a short run; 0 threads for TensorFlow's own number."""
    return timing.in_a_process(_trained, threads, changes)


def _trained(threads: int, changes: dict) -> list[np.ndarray]:
    tf.config.threading.set_intra_op_parallelism_threads(threads)
    tf.config.threading.set_inter_op_parallelism_threads(threads)
    with tempfile.TemporaryDirectory() as workdir:
        with contextlib.redirect_stdout(io.StringIO()):
            training.train(preset("digits", "jarn", **SHORT | changes), workdir)
        path = callbacks.checkpoints.in_folder(Workdir(pathlib.Path(workdir)).checkpoints)[0]
        reader = tf.train.load_checkpoint(str(path))
        return [
            reader.get_tensor(name)
            for name, _ in sorted(tf.train.list_variables(str(path)))
            if name.startswith("model/") and name.endswith("VARIABLE_VALUE")
        ]


def digest(arrays: list[np.ndarray]) -> str:
    return hashlib.sha256(b"".join(array.tobytes() for array in arrays)).hexdigest()


def difference(arrays: list[np.ndarray], others: list[np.ndarray]) -> float:
    return max(
        float(np.max(np.abs(array - other)) / (np.max(np.abs(array)) or 1))
        for array, other in zip(arrays, others, strict=True)
        if array.dtype == np.float32
    )


def step_seconds(deterministic: bool) -> float:
    return timing.in_a_process(_step_seconds, deterministic)


def _step_seconds(deterministic: bool) -> float:
    """Median seconds of some steps, of several rounds."""
    if deterministic:
        tf.config.experimental.enable_op_determinism()
    keras.utils.set_random_seed(SEED)
    model = JARN(networks.mnist_cnn((28, 28, 1)))
    model.compile("adam")
    generator = np.random.default_rng(SEED)
    images = generator.random((STEPS * 64, 28, 28, 1), np.float32)
    labels = generator.integers(0, 10, len(images))
    taken = []
    for _ in range(1 + ROUNDS):  # the first compiles
        begin = time.perf_counter()
        model.fit(images, labels, batch_size=64, verbose=0)
        taken.append(time.perf_counter() - begin)
    return float(np.median(taken[1:]))


if __name__ == "__main__":
    main()
