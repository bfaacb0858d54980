"""What a step of JARN costs, in plain training steps and in its own parts.

1. Before its adversarial phase JARN should cost what plain training costs: `fit` of JARN against
   `fit` of the same classifier under stock Keras. The noise is work that Uniform Noise training
   has as well, so it stands on a line of its own.
2. The classifier's part of an adversarial step: forward, J, J', and the backward pass through all
   three. By operations it is 2 plain steps (6 forward passes for 3).
3. A whole adversarial step against the sum of its parts, each measured alone: what exceeds 1 goes
   to metrics, checks and glue, or to work done twice. The discriminator's share stands beside it:
   with the paper's MNIST networks it is about half of the work of the phase.

Networks of Section 4.1 on random images of MNIST's shape. Run as `python -m benchmarks.step_time`.
"""

from __future__ import annotations

import functools
from collections.abc import Callable

import keras
import numpy as np
import tensorflow as tf

from benchmarks import timing
from jarn_tf import JARN, attacks, losses, networks
from jarn_tf.jacobian import logits_and_jacobian

SEED = 0
BATCH = 128
IMAGE_SHAPE = (28, 28, 1)
FIT_STEPS, FIT_ROUNDS = 200, 9
STEPS, ROUNDS = 10, 21


def main() -> None:
    keras.utils.set_random_seed(SEED)
    generator = np.random.default_rng(SEED)
    images = generator.random((32 * BATCH, *IMAGE_SHAPE), np.float32)
    labels = generator.integers(0, 10, 32 * BATCH, np.int32)
    timing.print_circumstances(SEED)
    compare_fit(images, labels)
    for filters in ((64, 128), (32, 64)):
        compare_steps(filters, tf.constant(images[:BATCH]), tf.constant(labels[:BATCH]))


def compare_fit(images: np.ndarray, labels: np.ndarray) -> None:
    """Part 1, through `fit`: host work between steps counts."""
    dataset = tf.data.Dataset.from_tensor_slices((images, labels)).batch(BATCH).cache()
    dataset = dataset.repeat().prefetch(tf.data.AUTOTUNE)
    never = 10**9
    models = {
        "plain": plain(),
        "the same": plain(),
        "jarn": jarn(start_step=never),
        "jarn with noise": jarn(start_step=never, perturb=attacks.UniformNoise(0.3)),
    }
    taken = timing.seconds(
        {
            name: functools.partial(
                model.fit, dataset, steps_per_epoch=FIT_STEPS, shuffle=False, verbose=0
            )
            for name, model in models.items()
        },
        FIT_ROUNDS,
    )
    timing.print_head(
        "Before the phase, through fit: step / stock Keras step", taken["plain"] / FIT_STEPS
    )
    timing.print_row("stock Keras once more", taken["the same"], taken["plain"])
    timing.print_row("JARN", taken["jarn"], taken["plain"], "<= 1.05")
    timing.print_row("JARN, with noise", taken["jarn with noise"], taken["plain"])


def compare_steps(filters: tuple[int, ...], images: tf.Tensor, labels: tf.Tensor) -> None:
    """Parts 2 and 3, as compiled functions of one batch in memory."""
    model = jarn(filters)
    batch = (images, labels)
    functions = parts(model, images, labels) | {
        "Keras": functools.partial(plain().train_step, batch),
        "step": functools.partial(model.train_step, batch, model.ADVERSARIAL),
        "learning step": functools.partial(
            model.train_step, batch, model.ADVERSARIAL_AND_DISCRIMINATOR
        ),
    }
    sides = {
        name: timing.repeated(tf.function(function, autograph=False), STEPS)
        for name, function in functions.items()
    }
    taken = timing.seconds(sides, ROUNDS)
    judged = taken["classifier's part"] + taken["verdict"]
    # Where the discriminator learns, one pass over J' serves both its verdict and its learning.
    learnt = judged + taken["discriminator learns"] - taken["discriminator forward"]

    timing.print_head(f"Discriminator {filters}: part / plain step", taken["plain"] / STEPS)
    timing.print_row("train_step of stock Keras, with its metrics", taken["Keras"], taken["plain"])
    timing.print_row("classifier's part", taken["classifier's part"], taken["plain"], "<= 2.3")
    for name in (
        "verdict",
        "discriminator forward",
        "discriminator learns",
        "step",
        "learning step",
    ):
        timing.print_row(name, taken[name], taken["plain"])
    timing.print_head(f"Discriminator {filters}: adversarial step / sum of its parts")
    timing.print_row("step", taken["step"], judged, "<= 1.15")
    timing.print_row("learning step", taken["learning step"], learnt, "<= 1.15")
    timing.print_head(f"Discriminator {filters}: its share of an adversarial step's parts")
    timing.print_row("step", taken["verdict"], judged)
    timing.print_row("learning step", learnt - taken["classifier's part"], learnt)


def parts(model: JARN, images: tf.Tensor, labels: tf.Tensor) -> dict[str, Callable]:
    """A plain step and the parts of an adversarial one, without metrics and checks."""
    theta, phi = model.classifier.trainable_variables, model.discriminator.trainable_variables
    generator = tf.random.Generator.from_seed(SEED)
    adapted_images = generator.uniform(images.shape, -1, 1)
    direction = generator.normal(images.shape)
    plain_optimizer, classifier_optimizer, discriminator_optimizer = optimizers()
    plain_optimizer.build(theta)
    classifier_optimizer.build(theta)
    discriminator_optimizer.build(phi)

    def plain_step():
        with tf.GradientTape() as tape:
            logits = model.classifier(images, training=True)
            loss = tf.reduce_mean(losses.cross_entropy(labels, logits))
        plain_optimizer.apply(tape.gradient(loss, theta), theta)
        return loss

    def classifiers_part():
        with tf.GradientTape() as tape:
            logits, jacobian = logits_and_jacobian(
                model.classifier, images, labels, model.jacobian_of, training=True
            )
            loss = tf.reduce_mean(losses.cross_entropy(labels, logits))
            adapted = model.adapt(jacobian, training=True)
        gradients = tape.gradient([loss, adapted], theta, output_gradients=[1.0, direction])
        classifier_optimizer.apply(gradients, theta)
        return loss

    def verdict():
        """What J' gets from the discriminator: one forward pass and its input gradient."""
        with tf.GradientTape() as tape:
            tape.watch(adapted_images)
            logits = model.discriminator(adapted_images, training=True)[:, 0]
            loss = tf.reduce_mean(losses.generator_loss(None, logits, model.gan_loss))
        return tape.gradient(loss, adapted_images)

    def discriminator_forward():
        return model.discriminator(adapted_images, training=True)

    def discriminator_learns():
        with tf.GradientTape() as tape:
            real = model.discriminator(images, training=True)[:, 0]
            adapted = model.discriminator(adapted_images, training=True)[:, 0]
            loss = -tf.reduce_mean(losses.adversarial_loss(real, adapted))
        discriminator_optimizer.apply(tape.gradient(loss, phi), phi)
        return loss

    return {
        "plain": plain_step,
        "classifier's part": classifiers_part,
        "verdict": verdict,
        "discriminator forward": discriminator_forward,
        "discriminator learns": discriminator_learns,
    }


def plain() -> keras.Model:
    model = networks.mnist_cnn(IMAGE_SHAPE)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(optimizers()[0], loss, metrics=["accuracy"])
    return model


def jarn(filters: tuple[int, ...] = (64, 128), **options) -> JARN:
    model = JARN(
        networks.mnist_cnn(IMAGE_SHAPE),
        networks.adaptor(IMAGE_SHAPE),
        networks.discriminator(IMAGE_SHAPE, filters),
        **options,
    )
    model.compile(*optimizers())
    return model


def optimizers() -> list[keras.optimizers.Optimizer]:
    # Rate 0 takes the same operations and leaves the weights where they are: every round measures
    # the same step, whatever random images would teach the networks.
    return [keras.optimizers.Adam(0.0) for _ in range(3)]


if __name__ == "__main__":
    main()
