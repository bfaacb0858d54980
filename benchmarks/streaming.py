"""A dataset larger than the memory that it may take: streamed, against in memory.

An archive of random pictures is written to the folder for temporary files (the variable `TMPDIR`),
loaded twice, and batches are delivered in the order of training, with nothing else to do: peak of
the process's own memory above that before loading (pages of the mapped file, which the system
takes back when it needs them, not counted), and batches a second. Linux. Run as
`python -m benchmarks.streaming`.
"""

from __future__ import annotations

import pathlib
import subprocess
import sys
import tempfile
import threading
import time

import numpy as np

from benchmarks import timing
from jarn_tf import data

SEED = 0
EXAMPLES, IMAGE_SHAPE = 40_000, (128, 128, 3)
BATCH, BATCHES = 128, 600
#: Name to the share of the free memory that the images may take.
SHARES = {"in memory": 0.9, "streamed": 0.0}


def main() -> None:
    if len(sys.argv) > 1:
        _measure(*sys.argv[1:])
        return
    timing.print_circumstances(SEED)
    with tempfile.TemporaryDirectory() as folder:
        path = pathlib.Path(folder) / "pictures.npz"
        generator = np.random.default_rng(SEED)
        labels = np.zeros(EXAMPLES, np.int32)
        images = generator.integers(0, 256, (EXAMPLES, *IMAGE_SHAPE), np.uint8)
        np.savez(path, x_train=images, y_train=labels, x_test=images[:1], y_test=labels[:1])
        print(f"{EXAMPLES:,} pictures {IMAGE_SHAPE}, {images.nbytes / 2**20:,.0f} MiB")
        del images
        for name in SHARES:
            command = [sys.executable, "-m", "benchmarks.streaming", name, str(path)]
            subprocess.run(command, check=True)


def _measure(name: str, path: str) -> None:
    """In a process of its own, prints what one way of loading takes."""
    before, peak, done = timing.memory("RssAnon"), 0, threading.Event()

    def watch():
        nonlocal peak
        while not done.wait(0.02):
            peak = max(peak, timing.memory("RssAnon"))

    threading.Thread(target=watch, daemon=True).start()
    split = data.load(f"npz:{path}", memory_share=SHARES[name]).train
    batches = data.training_batches(split, BATCH, SEED, 0, BATCHES)
    start = time.perf_counter()
    batches.reduce(np.int64(0), lambda count, *_: count + 1).numpy()
    seconds = time.perf_counter() - start
    done.set()
    print(f"{name:9}  {peak - before:6,.0f} MiB  {BATCHES / seconds:6.1f} batches a second")


if __name__ == "__main__":
    main()
