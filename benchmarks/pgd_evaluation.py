"""How fast accuracy under PGD is counted, against CleverHans and Foolbox, and in how much memory.

1. 1,000 MNIST test images, 40 steps, epsilon 0.3: `evaluation.robustness` against the same attack
   of CleverHans 4.0.0 and Foolbox 3.3.4 on the same model, images, labels and step size. The peers
   get a compiled model and the batch size that proves the fastest for them. CleverHans stands
   there once more inside one `tf.function`, all steps unrolled, which it leaves to its users.
   Dropping images that are broken gains much on a model that breaks (standard training), little
   where most images survive (adversarial training), so both are measured. Our accuracy can be a
   little lower: one misclassified point on the way counts, the peers look at the last one alone.
2. Peak host memory of a process that evaluates 1,000 or 10,000 images, without the images.

Needs, beyond requirements-dev.txt, `pip install --no-deps cleverhans==4.0.0` (PGD uses none of the
packages it asks for that are not there already), MNIST as `data.load` finds it, and Linux for
part 2. Run as `python -m benchmarks.pgd_evaluation`.
"""

from __future__ import annotations

import functools
import importlib.metadata
import pathlib
import sys
import tempfile
from collections.abc import Callable

import keras
import numpy as np
import tensorflow as tf

from benchmarks import timing
from jarn_tf import Defense, attacks, data, evaluation, networks

try:
    import foolbox
    from cleverhans.tf2.attacks import projected_gradient_descent as cleverhans_pgd
except ImportError as error:
    sys.exit(
        f"The module {error.name} is missing. The peers need: "
        "pip install foolbox==3.3.4 && pip install --no-deps cleverhans==4.0.0"
    )

SEED = 0
EPSILON, STEPS = 0.3, 40
STEP_SIZE = attacks.default_step_size(EPSILON, STEPS)
ATTACK = evaluation.Attack(f"pgd{STEPS}", EPSILON)
IMAGES, ROUNDS = 1000, 7
BATCH_SIZES = 500, 1000  # of the peers; ours is the default of `robustness`
TRAINING_BATCH, STANDARD_EPOCHS, ADVERSARIAL_EPOCHS, WARMUP = 128, 1, 4, 0.4
OURS, CLEVERHANS, COMPILED, FOOLBOX = "jarn_tf", "CleverHans", "CleverHans unrolled", "Foolbox"


def main() -> None:
    keras.utils.set_random_seed(SEED)
    timing.print_circumstances(SEED)
    versions = {name: importlib.metadata.version(name) for name in ("cleverhans", "foolbox")}
    print(", ".join(f"{name} {version}" for name, version in versions.items()), flush=True)
    mnist = data.load("mnist")
    images, labels = mnist.test.floats, mnist.test.labels
    steps = ADVERSARIAL_EPOCHS * data.steps_per_epoch(mnist.train, TRAINING_BATCH)
    examples = attacks.AdversarialExamples(EPSILON, warmup_steps=int(WARMUP * steps))
    for training, epochs, perturb in (
        ("Standard training", STANDARD_EPOCHS, None),
        ("Adversarial training", ADVERSARIAL_EPOCHS, examples),
    ):
        classifier = trained(mnist.train, epochs, perturb)
        compare_speed(training, classifier, images[:IMAGES], labels[:IMAGES])
        compare_memory(training, classifier, images, labels)


def trained(split: data.Split, epochs: int, perturb: Callable | None) -> keras.Model:
    """The paper's MNIST classifier, trained for a few epochs on perturbed images."""
    defense = Defense(networks.mnist_cnn(), perturb, SEED)
    defense.compile(keras.optimizers.Adam(1e-3))
    defense.fit(split.floats, split.labels, TRAINING_BATCH, epochs, verbose=0)
    return defense.classifier


def compare_speed(
    training: str, classifier: keras.Model, images: np.ndarray, labels: np.ndarray
) -> None:
    """Part 1, on one classifier."""
    sides = {OURS: functools.partial(our_accuracy, classifier, images, labels)}
    for name, attack in peers(classifier).items():
        for size in BATCH_SIZES:
            sides[in_batches(name, size)] = functools.partial(
                accuracy, attack, images, labels.astype(np.int64), size
            )
    accuracies = {name: run() for name, run in sides.items()}
    taken = timing.seconds(sides, ROUNDS)
    medians = {name: np.median(taken[name][timing.WALL]) for name in sides}

    print(f"\n{training}, PGD-{STEPS} on {len(images)} images")
    for name in sides:
        print(f"  {name:<42}accuracy {accuracies[name]:.1%}, {medians[name]:.2f} s")
    timing.print_head(f"{training}: time of a peer / time of {OURS}")
    for peer, target in ((CLEVERHANS, ">= 1.3"), (FOOLBOX, ">= 1.3"), (COMPILED, "")):
        fastest = min((in_batches(peer, size) for size in BATCH_SIZES), key=medians.get)
        timing.print_row(fastest, taken[fastest], taken[OURS], target)


def in_batches(peer: str, batch_size: int) -> str:
    return f"{peer}, {batch_size} images a batch"


def our_accuracy(classifier: keras.Model, images: np.ndarray, labels: np.ndarray) -> float:
    rows = evaluation.robustness(classifier, images, labels, [ATTACK], progress=False)
    return rows[0]["accuracy"]


def accuracy(attack: Callable, images: np.ndarray, labels: np.ndarray, batch_size: int) -> float:
    """Accuracy under `attack`, a function of a batch to which of its images are still right."""
    right = []
    for start in range(0, len(images), batch_size):
        part = slice(start, start + batch_size)
        right.append(attack(tf.constant(images[part]), tf.constant(labels[part])).numpy())
    return float(np.concatenate(right).mean())


def peers(classifier: keras.Model) -> dict[str, Callable]:
    """The peers' attacks, as functions of images and labels to which images are still right."""
    model = tf.function(functools.partial(classifier, training=False), autograph=False)
    foolbox_model = foolbox.TensorFlowModel(model, bounds=(0, 1))
    foolbox_pgd = foolbox.attacks.LinfPGD(abs_stepsize=STEP_SIZE, steps=STEPS, random_start=True)

    def of_cleverhans(images, labels):
        adversarial = cleverhans_pgd.projected_gradient_descent(
            model,
            images,
            EPSILON,
            STEP_SIZE,
            STEPS,
            np.inf,
            clip_min=0.0,
            clip_max=1.0,
            y=labels,
            rand_init=True,
            sanity_checks=False,
        )
        return tf.argmax(model(adversarial), axis=-1) == labels

    def of_foolbox(images, labels):
        *_, broken = foolbox_pgd(foolbox_model, images, labels, epsilons=EPSILON)
        return ~broken

    return {
        CLEVERHANS: of_cleverhans,
        COMPILED: tf.function(of_cleverhans, autograph=False),
        FOOLBOX: of_foolbox,
    }


def compare_memory(
    training: str, classifier: keras.Model, images: np.ndarray, labels: np.ndarray
) -> None:
    """Part 2, on one classifier."""
    with tempfile.TemporaryDirectory() as folder:
        classifier.save(pathlib.Path(folder, "classifier.keras"))
        images.tofile(pathlib.Path(folder, "images"))
        labels.tofile(pathlib.Path(folder, "labels"))
        what = f"{training}: peak memory without the images [MiB]"
        print(f"\n{what:<66}{'peak':>8}{'growth':>18}{'target':>20}", flush=True)
        few, many = IMAGES, len(images)
        base = None
        for number, target in ((few, ""), (many, "0")):
            # A process each, since a peak does not come down again.
            peak = timing.in_a_process(peak_memory, folder, number)
            base = base or peak
            what = f"{number} images"
            print(f"  {what:<64}{peak:>8.0f}{peak - base:>18.0f}{target:>20}", flush=True)


def peak_memory(folder: str, number: int) -> float:
    """Peak memory of this process, once it has evaluated so many images, without them, in MiB."""
    classifier = keras.models.load_model(pathlib.Path(folder, "classifier.keras"))
    shape = classifier.input_shape[1:]
    images = np.fromfile(pathlib.Path(folder, "images"), np.float32, number * np.prod(shape))
    labels = np.fromfile(pathlib.Path(folder, "labels"), np.int32, number)
    images = images.reshape(-1, *shape)
    evaluation.robustness(classifier, images, labels, [ATTACK], progress=False)
    return timing.memory("VmHWM") - images.nbytes / 2**20


if __name__ == "__main__":
    main()
