"""AutoAttack, an ensemble of diverse attacks without parameters (Croce & Hein, 2020)."""

from __future__ import annotations

import functools
import os
from collections.abc import Callable

import keras
import numpy as np
import tensorflow as tf
import tqdm

from jarn_tf import arguments, checks
from jarn_tf.attacks.apgd import apgd
from jarn_tf.attacks.batches import Images, Labels, in_batches
from jarn_tf.attacks.fab import fab
from jarn_tf.attacks.square import square
from jarn_tf.batches import PART
from jarn_tf.digests import digest_of_arrays, digest_of_model
from jarn_tf.inference import logits_of_all
from jarn_tf.resume import Part, Parts

#: Name of a version to its attacks with their settings, in order.
VERSIONS: dict[str, dict[str, tuple[Callable, dict]]] = {
    "standard": {
        "apgd_ce": (apgd, {"loss": "cross_entropy"}),
        "apgd_t": (apgd, {"loss": "dlr", "targets": 9}),
        "fab_t": (fab, {"targets": 9}),
        "square": (square, {"queries": 5000}),
    },
    "plus": {
        "apgd_ce": (apgd, {"loss": "cross_entropy", "restarts": 5}),
        "apgd_dlr": (apgd, {"loss": "dlr", "restarts": 5}),
        "fab": (fab, {"targets": 0, "restarts": 5}),
        "square": (square, {"queries": 5000}),
        "apgd_t": (apgd, {"loss": "dlr", "targets": 9}),
        "fab_t": (fab, {"targets": 9}),
    },
    "rand": {
        "apgd_ce": (apgd, {"loss": "cross_entropy", "eot_samples": 20}),
        "apgd_dlr": (apgd, {"loss": "dlr", "eot_samples": 20}),
    },
}


def autoattack(
    classifier: keras.Model,
    images: Images,
    labels: Labels = None,
    *,
    epsilon: float,
    norm: str = "linf",
    version: str = "standard",
    seed: int = 0,
    batch_size: int = 500,
    state: str | os.PathLike | None = None,
    progress: bool = False,
) -> np.ndarray:
    """Attacks each image with several attacks, one after another, until one of them succeeds.

    | version | attacks |
    |---|---|
    | `"standard"` | APGD-CE, APGD-T, FAB-T, Square |
    | `"plus"` | APGD-CE, APGD-DLR and untargeted FAB with 5 starts each, Square, APGD-T, FAB-T |
    | `"rand"` | APGD-CE, APGD-DLR, 20 passes a gradient: for classifiers that answer at random |

    The settings are the published ones. An image counts as broken once one pass takes what an
    attack found for another class. With fewer than ten classes APGD-T and FAB-T aim at all
    the wrong ones; with fewer than four APGD-T climbs the targeted margin, as its DLR is not
    defined there, with fewer than three APGD-DLR the margin.

    The images go through the attacks in parts of 500, whatever `batch_size` is. The random
    numbers of an image are a function of the seed, of its index, and of which images of its part
    before it have withstood so far.

    Args:
        classifier: Keras model from images in [0, 1] to logits; called with `training=False`.
        images: Images [n, height, width, channels], floating point in [0, 1] or `uint8`; or a
            `tf.data.Dataset` of batches of images and labels. See `attacks.batches`.
        labels: Integer labels [n] or [n, 1], or one-hot rows; None with a dataset.
        epsilon: Radius, pixels being in [0, 1].
        norm: What it is measured in: `"linf"` or `"l2"`.
        version: One of the above.
        seed: Seed of every random choice.
        batch_size: Images attacked at once, at most 500 here. Memory depends on it, and so does
            what `square` finds. The images that are left of many are attacked together, so that
            more of them are faster.
        state: Folder that keeps what is done, so that the same call continues an interrupted one
            and ends with the same images. It stays; delete it when it has served. Not for a
            dataset.
        progress: Whether to draw a progress bar with a time estimate on a terminal.

    Returns:
        float32 images within epsilon of `images` and within [0, 1]: misclassified ones; where no
        attack succeeded, or the image was misclassified to begin with (`rand` attacks it then,
        too), the image itself.

    Raises:
        ValueError: Bad images, labels, logits or options, or `state` belongs to something else.

    Reference: Croce & Hein, "Reliable evaluation of adversarial robustness with an ensemble of
    diverse parameter-free attacks", ICML 2020.
    """
    arguments.one_of("version", version, arguments.VERSIONS)
    arguments.radius(epsilon, norm=norm)
    seed = arguments.seed(seed)
    batch_size = arguments.whole("batch_size", batch_size)
    members = VERSIONS[version]
    parts = Parts(None, {})
    if state is not None:
        identity = _identity(classifier, images, labels)
        identity |= {"epsilon": float(epsilon), "settings": [version, norm, int(seed)]}
        parts = Parts(state, identity)

    def attack_part(images, labels, first):
        images, labels = images.numpy(), labels.numpy()
        adversarial, right = images.copy(), np.ones(len(labels), bool)
        if version != "rand":  # whose images one answer says little of
            right = np.argmax(logits_of_all(classifier, images, batch_size), axis=-1) == labels
        bar = tqdm.tqdm(
            total=len(labels) * len(members),
            desc=f"autoattack on images {first} to {first + len(labels) - 1}",
            leave=False,
            disable=None if progress else True,
        )
        for number, (name, (attack, settings)) in enumerate(members.items()):
            left = np.flatnonzero(right)
            bar.set_postfix_str(f"{name}, {len(left)} of {len(labels)} withstand")
            if len(left):
                options = {
                    "epsilon": epsilon,
                    "norm": norm,
                    "seed": _seed(seed, first, number),
                    "batch_size": batch_size,
                }
                of_left = images[left], labels[left]
                kinds = {"images": (of_left[0].shape, "float32")}
                run = functools.partial(attack, classifier, *of_left, **options, **settings)
                part = Part(f"{first}_{name}", kinds, lambda run=run: {"images": run()})
                adversarial[left] = parts.part(part)["images"]
                right[left] = unchanged(adversarial[left], images[left])
            bar.update(len(labels))
        bar.close()
        return adversarial

    return in_batches(
        "autoattack", attack_part, classifier, images, labels, batch_size, progress, PART
    )


def unchanged(adversarial: np.ndarray, images: np.ndarray) -> np.ndarray:
    """Which images [n] an attack has returned as they were.

    What tells the success of an attack on a classifier that answers at random, whose next answer
    may be another.
    """
    return (adversarial == images).all(axis=(1, 2, 3))


def _identity(classifier: keras.Model, images: Images, labels: Labels) -> dict[str, str]:
    """What is attacked. ValueError where that cannot be told."""
    if isinstance(images, tf.data.Dataset):
        raise ValueError(
            "state needs images and labels as arrays, to tell whether they are the same. "
            "Received: a tf.data.Dataset."
        )
    data = (np.asarray(checks.array(*of)) for of in (("images", images), ("labels", labels)))
    return {"model": digest_of_model(classifier), "data": digest_of_arrays(*data)}


def _seed(*of: int) -> int:
    """A seed for one attack on one part."""
    return int(np.random.SeedSequence(of).generate_state(1)[0]) % 2**31
