"""What `fit` costs beside a training loop of one's own, written with a compiled step and metrics.

On the paper's MNIST network and on a tiny dense one, whose step is nearly all overhead: stock
Keras and `Defense`, whose steps also check images, labels and loss, with a call a step and with 10
steps a call. Then what the callbacks add that write a run: an epoch of MNIST's length with them
beside one without. Random images, optimizers at rate 0. Run as `python -m benchmarks.fit`.
"""

from __future__ import annotations

import functools
import pathlib
import tempfile
from collections.abc import Callable

import keras
import numpy as np
import tensorflow as tf

from benchmarks import timing
from jarn_tf import JARN, Defense, attacks, callbacks, networks

SEED = 0
BATCH, CLASSES, ROUNDS = 128, 10, 15
#: Steps of one call of `fit`.
STEPS = {"mnist_cnn": 100, "tiny dense": 1000}
EPOCH, EPOCHS_TIMED = 422, 7  # steps of an epoch on MNIST


def main() -> None:
    keras.utils.set_random_seed(SEED)
    timing.print_circumstances(SEED)
    for name, build in ("mnist_cnn", networks.mnist_cnn), ("tiny dense", tiny):
        compare(name, build)
    compare_callbacks()


def tiny(image_shape: tuple[int, ...]) -> keras.Model:
    layers = keras.layers.Flatten(), keras.layers.Dense(16, "relu"), keras.layers.Dense(CLASSES)
    return keras.Sequential([keras.Input(image_shape), *layers])


def compare(name: str, build: Callable[..., keras.Model]) -> None:
    image_shape, steps = (28, 28, 1) if build is networks.mnist_cnn else (4, 4, 1), STEPS[name]
    data = batches(image_shape)
    models = {
        "stock Keras": stock(build(image_shape)),
        "stock Keras, 10 steps a call": stock(build(image_shape), steps_per_execution=10),
        "Defense": defense(build(image_shape)),
        "Defense, 10 steps a call": defense(build(image_shape), steps_per_execution=10),
    }
    if build is networks.mnist_cnn:
        models["JARN before its phase"] = jarn(build(image_shape))
        models["Defense, uniform noise"] = defense(
            build(image_shape), perturb=attacks.UniformNoise(0.3)
        )
    options = {"steps_per_epoch": steps, "shuffle": False, "verbose": 0}
    sides = {of: functools.partial(model.fit, data, **options) for of, model in models.items()}
    taken = timing.seconds({"loop": loop(build(image_shape), data, steps)} | sides, ROUNDS)
    timing.print_head(f"{name}: fit / a loop of one's own, a step", taken["loop"] / steps)
    targets = {
        "mnist_cnn": {"Defense": "<= 1.03"},
        "tiny dense": {"Defense, 10 steps a call": "<= 0.7"},
    }
    for of in sides:
        timing.print_row(of, taken[of], taken["loop"], targets[name].get(of, ""))


def compare_callbacks() -> None:
    """A run's callbacks but those that evaluate the classifier, which is work of its own."""
    data, model = batches((28, 28, 1)), defense(networks.mnist_cnn())
    images, labels = (values.numpy() for values in next(iter(data)))

    def epoch(writing: Callable[[pathlib.Path], list]) -> None:
        with tempfile.TemporaryDirectory() as folder:
            model.fit(
                data,
                steps_per_epoch=EPOCH,
                shuffle=False,
                verbose=0,
                callbacks=writing(pathlib.Path(folder)),
            )

    def of_a_run(folder):
        history = callbacks.HistoryFile(folder / "history.csv")
        board = callbacks.TensorBoard(folder, images[:16], labels[:16])
        return [board, history, callbacks.Backup(folder, model, 300.0, [history])]

    sides = {
        "bare": functools.partial(epoch, lambda folder: []),
        "with": functools.partial(epoch, of_a_run),
    }
    taken = timing.seconds(sides, EPOCHS_TIMED)
    timing.print_head("mnist_cnn: an epoch with callbacks / without", taken["bare"])
    what = "TensorBoard, history.csv, checkpoints"
    timing.print_row(what, taken["with"], taken["bare"], "<= 1.02")


def batches(image_shape: tuple[int, ...]) -> tf.data.Dataset:
    generator = np.random.default_rng(SEED)
    images = generator.random((32 * BATCH, *image_shape), np.float32)
    labels = generator.integers(0, CLASSES, 32 * BATCH, np.int32)
    data = tf.data.Dataset.from_tensor_slices((images, labels)).batch(BATCH, drop_remainder=True)
    return data.cache().repeat().prefetch(tf.data.AUTOTUNE)


def loop(model: keras.Model, data: tf.data.Dataset, steps: int) -> Callable:
    """As one writes it: a compiled step, a metric of the loss and one of the accuracy."""
    loss_of, optimizer = keras.losses.SparseCategoricalCrossentropy(from_logits=True), at_rest()
    optimizer.build(model.trainable_variables)
    mean, accuracy = keras.metrics.Mean(), keras.metrics.SparseCategoricalAccuracy()

    @tf.function
    def step(images, labels):
        with tf.GradientTape() as tape:
            logits = model(images, training=True)
            loss = loss_of(labels, logits)
        gradients = tape.gradient(loss, model.trainable_variables)
        optimizer.apply(gradients, model.trainable_variables)
        mean.update_state(loss)
        accuracy.update_state(labels, logits)

    def run():
        for images, labels in data.take(steps):
            step(images, labels)
        return float(mean.result()), float(accuracy.result())

    return run


def stock(model: keras.Model, **options) -> keras.Model:
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(at_rest(), loss, metrics=["accuracy"], **options)
    return model


def defense(classifier: keras.Model, perturb=None, **options) -> Defense:
    model = Defense(classifier, perturb)
    model.compile(at_rest(), **options)
    return model


def jarn(classifier: keras.Model) -> JARN:
    shape = classifier.input_shape[1:]
    others = networks.adaptor(shape), networks.discriminator(shape, (32, 64))
    model = JARN(classifier, *others, start_step=10**9)
    model.compile(at_rest(), at_rest(), at_rest())
    return model


def at_rest() -> keras.optimizers.Optimizer:
    # Rate 0 takes the same operations and leaves the weights where they are: every round measures
    # the same step, whatever random images would teach the networks.
    return keras.optimizers.Adam(0.0)


if __name__ == "__main__":
    main()
