"""What the first two batches of `fit` cost: tracing, optimising and running each kind of step.

MobileNetV3Small on 64x64 images, two batches of 32, once under stock Keras and under each defense;
a fresh model each time. JARN has two kinds of step, and two batches take both. A second `fit` of
the same model stands beside it. "plain phase" is JARN before its `start_step`.

Run as `python -m benchmarks.first_fit`.
"""

from __future__ import annotations

import os

os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")  # as the commands do

import time  # noqa: E402

import keras  # noqa: E402
import numpy as np  # noqa: E402

from benchmarks import timing  # noqa: E402
from jarn_tf import JARN, Defense, as_classifier  # noqa: E402

SEED = 0
BATCH = 32
IMAGE_SHAPE = (64, 64, 3)
STOCK = "stock Keras"


def main() -> None:
    generator = np.random.default_rng(SEED)
    images = generator.random((2 * BATCH, *IMAGE_SHAPE), np.float32)
    labels = generator.integers(0, 10, 2 * BATCH, np.int32)
    timing.print_circumstances(SEED)
    makers = {
        STOCK: stock,
        "Defense": lambda: compiled(Defense(network())),
        "JARN, plain phase": lambda: compiled(JARN(network(), start_step=10**9)),
        "JARN": lambda: compiled(JARN(network())),
        "JARN, discriminator_interval=1": lambda: compiled(
            JARN(network(), discriminator_interval=1)
        ),
    }
    fit(compiled(JARN(small())), images, labels)  # what a process loads once is nobody's cost
    print(f"{'':<34}{'first, s':>10}{'CPU':>8}{'second, s':>11}{'/ stock':>9}{'CPU':>7}")
    taken = {}
    for name, make in makers.items():
        model = make()
        taken[name] = fit(model, images, labels)
        again = fit(model, images, labels)[0]
        wall, cpu = taken[name] / taken[STOCK]
        first = f"{taken[name][0]:>10.1f}{taken[name][1]:>8.1f}"
        print(f"{name:<34}{first}{again:>11.2f}{wall:>9.2f}{cpu:>7.2f}", flush=True)
        del model
        keras.backend.clear_session()


def network() -> keras.Model:
    keras.utils.set_random_seed(SEED)
    model = keras.applications.MobileNetV3Small(IMAGE_SHAPE, weights=None, classes=10)
    return as_classifier(model, pixel_scale=255.0, probabilities=True)


def small() -> keras.Model:
    layers = [keras.Input(IMAGE_SHAPE), keras.layers.Flatten(), keras.layers.Dense(10)]
    return keras.Sequential(layers)


def stock() -> keras.Model:
    model = network()
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile("adam", loss, metrics=["accuracy"])
    return model


def compiled(model: Defense) -> Defense:
    model.compile("adam")
    return model


def fit(model: keras.Model, images: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Wall and CPU seconds of two batches."""
    begin = time.perf_counter(), time.process_time()
    model.fit(images, labels, batch_size=BATCH, verbose=0)
    return np.subtract((time.perf_counter(), time.process_time()), begin)


if __name__ == "__main__":
    main()
