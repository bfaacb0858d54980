"""How much memory attacks need for many images.

Peak host memory of a process that attacks 2,000 or 20,000 random colour images of 32 x 32 pixels
on a small network, above what the process held with the network and the images and nothing
attacked yet. Two parts: what the first 32 images take, for TensorFlow's code and the compiled
attack, whatever follows; and what comes on top. In the latter are the adversarial images, one array
of 12 bytes a colour pixel, 234 MiB at 20,000. Everything else must not grow. Steps are few, as
memory does not depend on them. Only on Linux. Run as

    python -m benchmarks.attack_memory [attack ...]
"""

from __future__ import annotations

import argparse
import functools
import gc
import time

import keras
import numpy as np

from benchmarks import timing
from jarn_tf import attacks

SEED = 0
IMAGE_SHAPE, CLASSES, EPSILON = (32, 32, 3), 10, 8 / 255
NUMBERS = 2_000, 20_000
FIRST = 32
MOST = 286  # MiB, 300 MB, on top of the first images, at the larger number
ATTACKS = {
    "fgsm": attacks.fgsm,
    "pgd": functools.partial(attacks.pgd, steps=2),
    "apgd": functools.partial(attacks.apgd, steps=2),
    "fab": functools.partial(attacks.fab, steps=1, targets=1),
    "square": functools.partial(attacks.square, queries=2),
}


def main() -> None:
    parser = argparse.ArgumentParser(description="Memory of attacks on many images.")
    parser.add_argument("attacks", nargs="*", default=list(ATTACKS), help=", ".join(ATTACKS))
    timing.print_circumstances(SEED)
    what = "Peak memory above network and images [MiB]"
    print(f"\n{what:<66}{'first 32':>10}{'on top':>8}{'target':>10}{'seconds':>9}", flush=True)
    for name in parser.parse_args().attacks:
        for number in NUMBERS:
            # A process each, since a peak does not come down again.
            first, rest, seconds = timing.in_a_process(peak_memory, name, number)
            target = f"<= {MOST}" if number == max(NUMBERS) else ""
            what = f"{name}, {number} images"
            print(f"  {what:<64}{first:>10.0f}{rest:>8.0f}{target:>10}{seconds:>9.0f}", flush=True)


def peak_memory(name: str, number: int) -> tuple[float, float, float]:
    """What an attack adds to the peak of this process: by its first images, by all; and seconds."""
    keras.utils.set_random_seed(SEED)
    classifier = keras.Sequential(
        [
            keras.Input(IMAGE_SHAPE),
            keras.layers.Conv2D(4, 5, strides=4, activation="relu"),
            keras.layers.Flatten(),
            keras.layers.Dense(CLASSES),
        ]
    )
    rng = np.random.default_rng(SEED)
    images = rng.random((number, *IMAGE_SHAPE), np.float32)
    labels = rng.integers(0, CLASSES, number, np.int32)
    gc.collect()
    before = timing.memory("VmRSS")
    ATTACKS[name](classifier, images[:FIRST], labels[:FIRST], epsilon=EPSILON)
    first, started = timing.memory("VmHWM"), time.perf_counter()
    ATTACKS[name](classifier, images, labels, epsilon=EPSILON)
    return first - before, timing.memory("VmHWM") - first, time.perf_counter() - started


if __name__ == "__main__":
    main()
