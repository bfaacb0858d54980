"""What a step of each defense costs beside the passes through the networks that it needs.

The floor of a step is the sum of bare passes, each compiled and measured by itself: forward and
backward to the weights (plain training), forward and back to the image, double backpropagation, the
discriminator's passes, optimizers' updates, noise. What a step takes beyond that goes to metrics,
checks, projections and glue, or to work done twice.

Networks and discriminator of the preset `paper`, one batch of random images in memory, optimizers
at rate 0. Run as `python -m benchmarks.cost_model --network=mnist_cnn`.
"""

from __future__ import annotations

import argparse
import collections
import functools
from collections.abc import Callable, Iterable

import keras
import numpy as np
import tensorflow as tf

from benchmarks import timing
from jarn_tf import JARN, Defense, losses
from jarn_tf.jacobian import logits_and_jacobian
from jarn_tf.randomness import BatchSlice
from jarn_tf.reproduction.setting import CLASSES, IMAGES, ROWS
from jarn_tf.runs.builders import build_model
from jarn_tf.runs.config import Config
from jarn_tf.runs.presets import preset
from jarn_tf.runs.presets.cifar10 import COMPACT

SEED = 0
#: Network to its dataset, what it changes in the preset, and the images of a batch.
NETWORKS = {
    "mnist_cnn": ("mnist", {}, 128),
    "compact_cnn": ("cifar10", {name: value for name, (value, _) in COMPACT.items()}, 128),
    "wide_resnet": ("cifar10", {}, 4),
}
ROWS_MEASURED = tuple(row for row in ROWS if row not in ("pgd_at_wide", "jarn_pgd_at"))
#: Pieces of a round, so that a short pass is not lost in the clock.
REPEATS = {"mnist_cnn": 5, "compact_cnn": 1, "wide_resnet": 1}
_PHASE = 10**9  # a number of steps that no phase ends within
TRAINING, TO_IMAGE, DOUBLE = "forward and backward", "to the image", "double backpropagation"
FORWARD, NOISE, UPDATE = "forward", "noise", "update"
VERDICT, GAME, UPDATE_OF_GAME = "verdict on J'", "verdict and learning", "discriminator's update"


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--network", choices=NETWORKS, default="mnist_cnn")
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--jit_compile", action="store_true", help="steps by XLA, passes without")
    arguments = parser.parse_args()
    keras.utils.set_random_seed(SEED)
    timing.print_circumstances(SEED)
    compare(arguments.network, arguments.rounds, arguments.jit_compile)


def compare(network: str, rounds: int, jit_compile: bool) -> None:
    """Prints the passes and floors in plain training steps, and the steps in their floors."""
    steps = [(row, kind) for row in ROWS_MEASURED for kind in kinds(row)]
    taken, floors = measured(network, steps, rounds, jit_compile)
    plain = taken[TRAINING] + taken[UPDATE]
    of = f"{network}, batch {NETWORKS[network][2]}"
    timing.print_head(f"{of}: pass / plain training step", plain)
    for name in (name for name in taken if name not in steps):
        timing.print_row(name, taken[name], plain)
    timing.print_head(f"{of}: floor / plain training step")
    for step in steps:
        timing.print_row(", ".join(step), floors[step], plain)
    timing.print_head(f"{of}: step / floor")
    for step in steps:
        timing.print_row(", ".join(step), taken[step], floors[step], "<= 1.15")


def measured(
    network: str, steps: Iterable[tuple[str, str]], rounds: int, jit_compile: bool = False
) -> tuple[dict[str | tuple[str, str], np.ndarray], dict[tuple[str, str], np.ndarray]]:
    """Wall and CPU seconds [2, rounds] of the passes and of steps, and of the steps' floors.

    Args:
        network: One of `NETWORKS`.
        steps: Rows of `ROWS` with a kind of step of each.
        rounds: Rounds.
        jit_compile: Whether XLA compiles the steps.
    """
    dataset, changes, batch_size = NETWORKS[network]
    batch = random_batch(dataset, batch_size)
    configs = {
        row: preset(dataset, row, "paper", **changes | {"classifier_decay": ()})
        for row in ("jarn", *(row for row, _ in steps))
    }
    models = {row: resting(config, dataset) for row, config in configs.items()}
    functions = {
        name: tf.function(work, autograph=False)
        for name, work in passes(models["jarn"], *batch).items()
    }
    for row, kind in steps:
        models[row].jit_compile = jit_compile
        work = functools.partial(models[row].train_step, batch, kind)
        functions[row, kind] = tf.function(work, autograph=False, jit_compile=jit_compile)
    repeats = REPEATS[network]
    sides = {name: timing.repeated(function, repeats) for name, function in functions.items()}
    taken = {name: each / repeats for name, each in timing.seconds(sides, rounds).items()}
    floors = {
        (row, kind): sum(count * taken[of] for of, count in floor(configs[row], kind).items())
        for row, kind in steps
    }
    return taken, floors


def random_batch(dataset: str, batch_size: int) -> tuple[tf.Tensor, tf.Tensor]:
    image_shape, _ = IMAGES[dataset]
    generator = np.random.default_rng(SEED)
    images = generator.random((batch_size, *image_shape), np.float32)
    return tf.constant(images), tf.constant(generator.integers(0, CLASSES, batch_size, np.int32))


def resting(config: Config, dataset: str) -> Defense:
    """A run's model, of rates 0: the same work, whatever the steps before have taught."""
    model = build_model(config, IMAGES[dataset][0], CLASSES, _PHASE)
    for name in model.OPTIMIZERS:
        getattr(model, name).learning_rate = 0.0
    return model


def kinds(row: str) -> tuple[str, ...]:
    """The kinds of step that a row is judged by: those of JARN's phase."""
    if row.startswith("jarn"):
        return JARN.ADVERSARIAL, JARN.ADVERSARIAL_AND_DISCRIMINATOR
    return (Defense.CLASSIFIER,)


def floor(config: Config, kind: str) -> collections.Counter[str]:
    """How many passes of each sort a step needs."""
    perturbation = {
        "none": {},
        "uniform_noise": {NOISE: 1},
        "fgsm": {TO_IMAGE: 1, NOISE: int(config.attack_random_start)},
        "pgd": {TO_IMAGE: config.attack_steps, NOISE: 1},
        "pgd_kl": {FORWARD: 1, TO_IMAGE: config.attack_steps, NOISE: 1},
    }[config.perturbation]
    game = {VERDICT: 1}
    if kind == JARN.ADVERSARIAL_AND_DISCRIMINATOR:
        game = {GAME: 1, UPDATE_OF_GAME: 1}
    regularizer = {
        "none": {TRAINING: 1},
        "double_backprop": {DOUBLE: 1},
        "jarn": {DOUBLE: 1} | game,
        "trades": {TRAINING: 2},
    }[config.regularizer]
    return collections.Counter(perturbation) + collections.Counter(regularizer | {UPDATE: 1})


def passes(model: JARN, images: tf.Tensor, labels: tf.Tensor) -> dict[str, Callable]:
    """The bare passes, without metrics and checks."""
    classifier, discriminator = model.classifier, model.discriminator
    theta, phi = classifier.trainable_variables, discriminator.trainable_variables
    adapted = tf.random.stateless_uniform(images.shape, (SEED, 0), -1, 1)
    direction = tf.random.stateless_normal(images.shape, (SEED, 1))

    def training():
        with tf.GradientTape() as tape:
            logits = classifier(images, training=True)
            loss = tf.reduce_mean(losses.cross_entropy(labels, logits))
        return tape.gradient(loss, theta)

    def double():
        with tf.GradientTape() as tape:
            logits, jacobian = logits_and_jacobian(classifier, images, labels, training=True)
            loss = tf.reduce_mean(losses.cross_entropy(labels, logits))
        return tape.gradient([loss, jacobian], theta, output_gradients=[1.0, direction])

    def verdict():
        with tf.GradientTape() as tape:
            tape.watch(adapted)
            loss = tf.reduce_mean(losses.generator_loss(None, judged(adapted), model.gan_loss))
        return tape.gradient(loss, adapted)

    def game():
        with tf.GradientTape() as tape:
            tape.watch(adapted)
            loss = tf.reduce_mean(losses.adversarial_loss(judged(images), judged(adapted)))
        return tape.gradient(loss, [adapted, *phi])

    def judged(shown):
        return discriminator(shown, training=True)[:, 0]

    def update(optimizer, variables):
        gradients = [tf.zeros(variable.shape) for variable in variables]
        optimizer.apply(gradients, variables)
        return gradients[0]

    return {
        TRAINING: training,
        FORWARD: lambda: classifier(images, training=False),
        TO_IMAGE: lambda: logits_and_jacobian(classifier, images, labels)[1],
        DOUBLE: double,
        VERDICT: verdict,
        GAME: game,
        UPDATE: functools.partial(update, model.classifier_optimizer, theta),
        UPDATE_OF_GAME: functools.partial(update, model.discriminator_optimizer, phi),
        NOISE: lambda: BatchSlice.of(images, SEED, model.step).uniform(images, -1.0, 1.0),
    }


if __name__ == "__main__":
    main()
