"""AutoAttack, an ensemble of diverse attacks without parameters (Croce & Hein, 2020)."""

from __future__ import annotations

import os
from collections.abc import Callable

import keras
import numpy as np
import tensorflow as tf
import tqdm

from jarn_tf import arguments, checks
from jarn_tf.attacks.apgd import apgd
from jarn_tf.attacks.fab import fab
from jarn_tf.attacks.square import square
from jarn_tf.inference import logits_of_all
from jarn_tf.resume import Parts, digest_of_arrays, digest_of_model

#: Name of a version to its attacks with their settings, in order.
VERSIONS: dict[str, dict[str, tuple[Callable, dict]]] = {
    "standard": {
        "apgd_ce": (apgd, {"loss": "cross_entropy"}),
        "apgd_t": (apgd, {"loss": "dlr", "targets": 9}),
        "fab_t": (fab, {"targets": 9}),
        "square": (square, {"queries": 5000}),
    }
}


def autoattack(
    classifier: keras.Model,
    images: tf.Tensor,
    labels: tf.Tensor,
    *,
    epsilon: float,
    version: str = "standard",
    seed: int = 0,
    batch_size: int = 500,
    state: str | os.PathLike | None = None,
    progress: bool = False,
) -> tf.Tensor:
    """Attacks each image with APGD-CE, APGD-T, FAB-T and Square until one of them succeeds.

    The settings are the published ones. With fewer than ten classes APGD-T and FAB-T aim at all
    the wrong ones; with fewer than four APGD-T climbs the targeted margin, as its DLR is not
    defined there.

    Args:
        classifier: Keras model from images in [0, 1] to logits; called with `training=False`.
        images: Float images [n, height, width, channels] in [0, 1].
        labels: Integer labels [n] or one-hot rows.
        epsilon: L-infinity radius in pixel units of [0, 1].
        version: `"standard"`, the only one.
        seed: Seed of every random choice.
        batch_size: Images attacked at a time; bounds the memory used.
        state: Folder that keeps what is done, so that the same call continues an interrupted one
            and ends with the same images. It stays; delete it when it has served.
        progress: Whether to draw a progress bar with a time estimate on a terminal.

    Returns:
        float32 images within epsilon of `images` and within [0, 1]: misclassified ones; where no
        attack succeeded, or the image was misclassified to begin with, the image itself.

    Raises:
        ValueError: Bad images, labels, logits or options, or `state` belongs to something else.

    Reference: Croce & Hein, "Reliable evaluation of adversarial robustness with an ensemble of
    diverse parameter-free attacks", ICML 2020.
    """
    arguments.one_of("version", version, tuple(VERSIONS))
    arguments.radius(epsilon)
    arguments.whole("seed", seed, least=0)
    arguments.whole("batch_size", batch_size)
    images, labels = np.asarray(images), np.asarray(labels)
    checks.batches(classifier, images, labels, batch_size)
    members = VERSIONS[version]
    parts = Parts(
        state,
        {
            "model": digest_of_model(classifier),
            "data": digest_of_arrays(images, labels),
            "epsilon": epsilon,
            "settings": [version, seed, batch_size],
        },
    )
    adversarial = images.astype(np.float32)
    labels = np.argmax(labels, axis=-1) if labels.ndim == 2 else labels
    bar = tqdm.tqdm(
        total=len(images) * len(members),
        desc="autoattack",
        leave=False,
        disable=None if progress else True,
    )
    for start in range(0, len(images), batch_size):
        batch = slice(start, start + batch_size)
        for number, (name, (attack, settings)) in enumerate(members.items()):
            logits = logits_of_all(classifier, adversarial[batch], batch_size)
            withstand = np.argmax(logits, axis=-1) == labels[batch]
            left = start + np.flatnonzero(withstand)
            bar.set_postfix_str(f"{name}, {len(left)} of {len(withstand)} withstand")
            if len(left):
                options = {"epsilon": epsilon, "seed": _seed(seed, start, number)} | settings
                of_left = (classifier, images[left], labels[left])
                found = parts.part(f"{start}_{name}", _run, attack, of_left, options)
                adversarial[left] = found["images"]
            bar.update(len(withstand))
    bar.close()
    return tf.convert_to_tensor(adversarial)


def _run(attack: Callable, attacked: tuple, options: dict) -> dict[str, np.ndarray]:
    return {"images": attack(*attacked, **options).numpy()}


def _seed(*of: int) -> int:
    """A seed for one attack on one batch."""
    return int(np.random.SeedSequence(of).generate_state(1)[0]) % 2**31
