"""How much faster the input pipeline delivers batches than training consumes them.

`data.training_batches`, iterated with nothing else to do, against `fit` on the same pipeline: of
JARN as recommended for MNIST, all steps adversarial, and of plain training. The pipeline shares
the CPU with training, so a ratio of n also means that it takes about 1/n of the time.

Random images of MNIST's size. Run as `python -m benchmarks.input_pipeline`.
"""

from __future__ import annotations

import keras
import numpy as np
import tensorflow as tf

from benchmarks import timing
from jarn_tf import data
from jarn_tf.runs.builders import build_model
from jarn_tf.runs.presets import preset

SEED = 0
EXAMPLES, IMAGE_SHAPE, CLASSES = 54_000, (28, 28, 1), 10
DELIVERED, TRAINED, ROUNDS = 1000, 100, 11


def main() -> None:
    keras.utils.set_random_seed(SEED)
    generator = np.random.default_rng(SEED)
    split = data.Split(
        generator.integers(0, 256, (EXAMPLES, *IMAGE_SHAPE), np.uint8),
        generator.integers(0, CLASSES, EXAMPLES, np.int32),
    )
    jarn, plain = preset("mnist", "jarn"), preset("mnist", "standard")

    def pipeline(batches: int) -> tf.data.Dataset:
        return data.training_batches(split, jarn.batch_size, SEED, 0, batches, jarn.augment)

    delivered, trained = pipeline(DELIVERED), pipeline(TRAINED)

    def deliver():
        # Counted inside tf.data: the loop of `fit` is training's, not the pipeline's.
        delivered.reduce(np.int64(0), lambda count, *_: count + 1).numpy()

    def training(config):
        # A run of 0 steps puts the beginning of JARN's phase at step 0.
        model = build_model(config, IMAGE_SHAPE, CLASSES, total_steps=0)
        return lambda: model.fit(trained, shuffle=False, verbose=0)

    timing.print_circumstances(SEED)
    taken = timing.seconds(
        {"pipeline": deliver, "jarn": training(jarn), "plain": training(plain)}, ROUNDS
    )
    batch = taken["pipeline"] / DELIVERED
    timing.print_head("Batches delivered per batch consumed; delivery", batch)
    for name in ("jarn", "plain"):
        timing.print_row(f"{name} training", taken[name] / TRAINED, batch, ">= 20")


if __name__ == "__main__":
    main()
