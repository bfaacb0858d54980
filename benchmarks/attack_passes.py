"""What an attack costs beside the passes through the classifier that it cannot do without.

CPU and wall time of each attack over that of its bare passes: a compiled loop, on the same images
in the same batches, that computes logits and their input gradient as often as the attack needs
both, and logits alone as often as it needs them alone. The radius is so small that no image falls
and every step is done, which is where the cost of an attack shows: on a robust classifier.
Targets and queries are fewer than AutoAttack's, which leaves the ratio. Run as

    python -m benchmarks.attack_passes CLASSIFIER.keras [--dataset=mnist] [--attacks=pgd,square]
"""

from __future__ import annotations

import argparse
import functools

import keras
import numpy as np
import tensorflow as tf

from benchmarks import timing
from jarn_tf import attacks, data, losses

SEED, ROUNDS = 0, 3
EPSILON = 1e-4  # within it no image falls
BATCH_SIZES = 100, 500
STEPS, TARGETS, QUERIES = 50, 2, 500
#: Of each attack: its settings, how often it needs logits and gradient, how often logits alone.
ATTACKS = {
    "pgd": (functools.partial(attacks.pgd, steps=STEPS), STEPS, 2),
    "apgd_ce": (functools.partial(attacks.apgd, steps=STEPS), STEPS, 1),
    "apgd_t": (
        functools.partial(attacks.apgd, steps=STEPS, loss="dlr", targets=TARGETS),
        TARGETS * STEPS,
        TARGETS,
    ),
    "fab_t": (
        functools.partial(attacks.fab, steps=STEPS, targets=TARGETS),
        TARGETS * STEPS,
        TARGETS * STEPS,
    ),
    "square": (functools.partial(attacks.square, queries=QUERIES), 0, QUERIES),
}


def main() -> None:
    parser = argparse.ArgumentParser(description="Attacks against their bare passes.")
    parser.add_argument("classifier", help="Keras file")
    parser.add_argument("--dataset", default="mnist")
    parser.add_argument("--attacks", default=",".join(ATTACKS))
    options = parser.parse_args()
    timing.print_circumstances(SEED)
    classifier = keras.models.load_model(options.classifier)
    images, labels = rightly_classified(classifier, data.load(options.dataset).test)
    for name in options.attacks.split(","):
        attack, gradients, forwards = ATTACKS[name]
        timing.print_head(f"{name}, time / time of its bare passes")
        for size in BATCH_SIZES:
            some = images[:size], labels[:size]
            sides = {
                "attack": functools.partial(
                    attack, classifier, *some, epsilon=EPSILON, batch_size=size
                ),
                "bare": functools.partial(
                    bare_passes, classifier, *map(tf.constant, some), gradients, forwards
                ),
            }
            taken = timing.seconds(sides, ROUNDS)
            timing.print_row(f"{size} images", taken["attack"], taken["bare"], "<= 1.1")


def rightly_classified(classifier: keras.Model, split: data.Split) -> tuple[np.ndarray, np.ndarray]:
    """As many images as the largest batch, none of which falls at once."""
    images, labels = split.floats[: 2 * max(BATCH_SIZES)], split.labels[: 2 * max(BATCH_SIZES)]
    right = np.argmax(classifier.predict(images, verbose=0), axis=-1) == labels
    return images[right][: max(BATCH_SIZES)], labels[right][: max(BATCH_SIZES)].astype(np.int32)


@functools.cache
def compiled(classifier: keras.Model):
    @tf.function
    def passes(images, labels, gradients, forwards):
        # Each pass is at another point, so that none is left out as the same as the one before.
        points = images
        for _ in tf.range(gradients):
            with tf.GradientTape() as tape:
                tape.watch(points)
                values = losses.cross_entropy(labels, classifier(points, training=False))
            points += 1e-6 * tape.gradient(values, points)
        for _ in tf.range(forwards):
            points += 1e-6 * tf.reduce_mean(classifier(points, training=False))
        return points

    return passes


def bare_passes(classifier, images, labels, gradients, forwards) -> None:
    compiled(classifier)(images, labels, tf.constant(gradients), tf.constant(forwards)).numpy()


if __name__ == "__main__":
    main()
