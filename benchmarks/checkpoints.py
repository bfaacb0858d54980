"""What checkpoints cost: the time of one as a share of the time between two, and of a SIGTERM.

JARN's three networks and their Adams' slots are saved, of each classifier here, each
`--checkpoint_seconds`, 300 unless told: a checkpoint's share of that is what it adds to training.

SIGTERM is sent to a training command on scikit-learn's digits after its second epoch. Until it says
that it stopped it finishes a step and saves; then Python ends.

Run as `python -m benchmarks.checkpoints`.
"""

from __future__ import annotations

import pathlib
import signal
import subprocess
import sys
import tempfile
import time

import keras
import numpy as np

from benchmarks import timing
from jarn_tf import JARN, callbacks, networks

SEED = 0
NETWORKS = {
    "mnist_cnn": (networks.mnist_cnn, (28, 28, 1)),
    "compact_cnn": (networks.compact_cnn, (32, 32, 3)),
    "wide_resnet (WRN-32-10)": (networks.wide_resnet, (32, 32, 3)),
}
SAVES, STOPS = 5, 5
BETWEEN = 300.0  # the default of --checkpoint_seconds


def main() -> None:
    timing.print_circumstances(SEED)
    print(f"\n{'network':<26}{'MiB':>8}{'seconds':>10}{f'% of {BETWEEN:g} s':>14}")
    for name, (network, image_shape) in NETWORKS.items():
        size, seconds = saving(network(image_shape), image_shape)
        print(f"{name:<26}{size:>8.1f}{seconds:>10.3f}{100 * seconds / BETWEEN:>14.3f}", flush=True)
    taken = np.array([seconds_to_stop() for _ in range(STOPS)])
    for what, seconds in zip(("saved", "status 0"), taken.T):
        print(f"SIGTERM to {what}: {np.median(seconds):.2f} s, at most {seconds.max():.2f} s")


def saving(classifier: keras.Model, image_shape: tuple[int, int, int]) -> tuple[float, float]:
    """MiB of a checkpoint, and the median seconds of saving one."""
    model = JARN(classifier)
    model.compile("adam")
    images = np.random.default_rng(SEED).random((2, *image_shape), np.float32)
    folder = tempfile.mkdtemp()
    backup = callbacks.Backup(folder, model, seconds=0)
    model.fit(images, np.array([0, 1]), verbose=0, callbacks=[backup])
    taken = []
    for _ in range(SAVES):
        begin = time.perf_counter()
        backup._save(backup._state(1))
        taken.append(time.perf_counter() - begin)
    newest = callbacks.checkpoints.in_folder(pathlib.Path(folder))[0]
    size = sum(path.stat().st_size for path in newest.parent.glob(f"{newest.name}.*"))
    return size / 2**20, float(np.median(taken))


def seconds_to_stop() -> tuple[float, float]:
    """From SIGTERM until a training command has saved, and until it has ended."""
    with tempfile.TemporaryDirectory() as workdir:
        command = [
            sys.executable,
            "-u",
            "-m",
            "launch.train",
            "--dataset=digits",
            "--epochs=100000",
        ]
        process = subprocess.Popen([*command, f"--workdir={workdir}"], stdout=subprocess.PIPE)
        for line in process.stdout:
            if line.startswith(b"2/"):
                break
        begin = time.perf_counter()
        process.send_signal(signal.SIGTERM)
        process.stdout.readline()
        saved = time.perf_counter() - begin
        process.communicate()
        ended = time.perf_counter() - begin
    if process.returncode:
        sys.exit(f"The command ended with status {process.returncode}.")
    return saved, ended


if __name__ == "__main__":
    main()
