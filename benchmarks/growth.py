"""How time grows with batch, width of the network, replicas, images and steps of an attack.

Draws four panels; a straight line of slope 1 is growth in proportion. Random images, optimizers at
rate 0, and attacks within a radius at which no image falls. Run as
`python -m benchmarks.growth --output=growth.png`.
"""

from __future__ import annotations

import argparse
import functools
from collections.abc import Callable, Mapping

import keras
import matplotlib.figure
import matplotlib.ticker
import numpy as np
import tensorflow as tf

from benchmarks import timing
from benchmarks.cost_model import SEED, kinds, random_batch, resting
from jarn_tf import attacks, networks
from jarn_tf.reproduction.setting import ROWS
from jarn_tf.runs.builders import make_strategy
from jarn_tf.runs.presets import preset

ROUNDS = 5
ROWS_MEASURED = "standard", "jarn", "pgd_at"
BATCHES, WIDTHS, REPLICAS = (8, 32, 128, 512), (1, 2, 4), (1, 2)
IMAGES, STEPS = (250, 500, 1000, 2000), (10, 20, 40, 80)
EPSILON = 1e-4


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--output", default="growth.png")
    path = parser.parse_args().output
    make_strategy("mirrored", max(REPLICAS))  # logical CPUs, before TensorFlow runs anything
    keras.utils.set_random_seed(SEED)
    timing.print_circumstances(SEED)
    panels = {
        "a step over 8 to 512 images, mnist_cnn": over_batches(),
        "a step over width 1 to 4, Wide-ResNet": over_widths(),
        "a step over 1 to 2 replicas on 2 cores": over_replicas(),
        "PGD over its images and steps": over_attacks(),
    }
    for title, curves in panels.items():
        timing.print_head(f"{title}: time / that of the first")
        for (curve, place), seconds in curves.items():
            first = next(taken for (of, _), taken in curves.items() if of == curve)
            timing.print_row(f"{curve}, {place}", seconds, first)
    draw(panels, path)


def steps(row: str, batch_size: int, dataset: str, **changes) -> Callable:
    """A compiled step; of JARN the one on which the discriminator learns."""
    model = resting(preset(dataset, row, "paper", **changes | {"classifier_decay": ()}), dataset)
    step = functools.partial(model.train_step, random_batch(dataset, batch_size), kinds(row)[-1])
    return timing.repeated(tf.function(step, autograph=False), 1)


def over_batches() -> dict:
    places = [(row, size) for row in ROWS_MEASURED for size in BATCHES]
    sides = {(ROWS[row], size): steps(row, size, "mnist") for row, size in places}
    return timing.seconds(sides, ROUNDS)


def over_widths() -> dict:
    places = [(row, width) for row in ROWS_MEASURED for width in WIDTHS]
    one = {"wide_resnet_units": 1, "network": "wide_resnet"}
    sides = {
        (ROWS[row], width): steps(row, 16, "cifar10", **one, wide_resnet_width=width)
        for row, width in places
    }
    return timing.seconds(sides, ROUNDS)


def over_replicas() -> dict:
    sides = {}
    for replicas in REPLICAS:  # a strategy for all rows, as its collective operations have numbers
        strategy = tf.distribute.MirroredStrategy([f"CPU:{number}" for number in range(replicas)])
        for row in ROWS_MEASURED:
            with strategy.scope():
                model = resting(preset("mnist", row, "paper", classifier_decay=()), "mnist")
            model.kind_of_step = functools.partial(lambda kind, step: kind, kinds(row)[-1])
            data = tf.data.Dataset.from_tensors(random_batch("mnist", 256)).repeat()
            fit = functools.partial(model.fit, data, steps_per_epoch=10, verbose=0, shuffle=False)
            sides[ROWS[row], replicas] = fit
    return timing.seconds(sides, ROUNDS)


def over_attacks() -> dict:
    classifier = networks.mnist_cnn()
    images, _ = random_batch("mnist", max(IMAGES))
    labels = tf.argmax(classifier(images), axis=-1, output_type=tf.int32)
    attack = functools.partial(attacks.pgd, classifier, epsilon=EPSILON, random_start=False)
    sides = {
        ("250 to 2,000 images", n): functools.partial(attack, images[:n], labels[:n], steps=40)
        for n in IMAGES
    }
    few = images[:500], labels[:500]
    sides |= {("10 to 80 steps", n): functools.partial(attack, *few, steps=n) for n in STEPS}
    return timing.seconds(sides, ROUNDS)


def draw(panels: Mapping[str, Mapping[tuple[str, int], np.ndarray]], path: str) -> None:
    figure = matplotlib.figure.Figure((15, 3.9), dpi=110)
    for axis, (title, curves) in zip(figure.subplots(1, len(panels)), panels.items()):
        for name in dict.fromkeys(name for name, _ in curves):
            places = np.array([place for of, place in curves if of == name])
            taken = np.array([np.median(curves[name, place][timing.WALL]) for place in places])
            axis.plot(places / places[0], taken / taken[0], ".-", label=name)
        ends = axis.get_xlim()[1:] + (1,)
        axis.plot(ends, ends, ":", color="0.5", label="in proportion")
        axis.set(xscale="log", yscale="log", title=title, xlabel="times as many")
        for axis_of in axis.xaxis, axis.yaxis:
            axis_of.set_major_locator(matplotlib.ticker.LogLocator(2))
            axis_of.set_major_formatter("{x:g}")
        axis.minorticks_off()
        axis.title.set_fontsize(10)
        axis.grid(alpha=0.3)
        axis.legend(fontsize=8)
    figure.axes[0].set_ylabel("times as long")
    figure.tight_layout()
    figure.savefig(path)


if __name__ == "__main__":
    main()
