"""Accuracy on clean and on adversarial images, every image counted once."""

from __future__ import annotations

import dataclasses
import re
import time
from collections.abc import Sequence

import keras
import numpy as np
import tensorflow as tf
import tqdm

from jarn_tf import attacks, config

ATTACK_NAMES = "fgsm, pgdK or pgdK_margin with K steps (pgd5, pgd40, pgd40_margin)"


@dataclasses.dataclass(frozen=True)
class Attack:
    """A named attack at one radius.

    Attributes:
        name: `"clean"`, `"fgsm"`, or `"pgdK"` or `"pgdK_margin"` for a whole number K of steps.
        epsilon: L-infinity radius in pixel units of [0, 1].
        restarts: Independent runs of PGD.
        step_size: Step of PGD; None for `attacks.pgd`'s own.
        random_start: Whether PGD starts at a random point of the ball.
        seed: Seed of the random starts.
    """

    name: str
    epsilon: float
    restarts: int = 1
    step_size: float | None = None
    random_start: bool = True
    seed: int = 0

    def __post_init__(self):
        config.radius(self.epsilon)
        config.whole("restarts", self.restarts)
        if self.step_size is not None:
            config.positive("step_size", self.step_size)
        if self.name not in ("clean", "fgsm") and not re.fullmatch(
            r"pgd[1-9]\d*(_margin)?", self.name
        ):
            raise ValueError(f"Unknown attack {self.name!r}. Known: {ATTACK_NAMES}.")

    @property
    def is_pgd(self) -> bool:
        return self.name.startswith("pgd")

    @property
    def steps(self) -> int:
        """Gradient steps of one restart."""
        if self.is_pgd:
            return int(re.sub(r"\D", "", self.name))
        return 1 if self.name == "fgsm" else 0

    @property
    def loss(self) -> str:
        return "margin" if self.name.endswith("_margin") else "cross_entropy"

    def __call__(
        self,
        classifier: keras.Model,
        images: np.ndarray,
        labels: np.ndarray,
        stop_when_misclassified: bool = False,
    ) -> tf.Tensor:
        """Adversarial images; `stop_when_misclassified` as in `attacks.pgd`."""
        if self.name == "clean":
            return tf.convert_to_tensor(images)
        if self.name == "fgsm":
            return attacks.fgsm(classifier, images, labels, epsilon=self.epsilon)
        return attacks.pgd(
            classifier,
            images,
            labels,
            epsilon=self.epsilon,
            step_size=self.step_size,
            steps=self.steps,
            restarts=self.restarts,
            random_start=self.random_start,
            seed=self.seed,
            loss=self.loss,
            stop_when_misclassified=stop_when_misclassified,
        )

    def row(self) -> dict:
        """What identifies the attack in `evaluation.json`."""
        row = {"name": self.name, "epsilon": self.epsilon, "steps": self.steps, "restarts": 0}
        if self.is_pgd:
            row |= {
                "restarts": self.restarts,
                "step_size": self.step_size or attacks.default_step_size(self.epsilon, self.steps),
                "random_start": self.random_start,
            }
        if self.steps:
            row["loss"] = self.loss
        return row


def robustness(
    classifier: keras.Model,
    images: np.ndarray,
    labels: np.ndarray,
    list_of_attacks: Sequence[Attack],
    batch_size: int = 500,
    progress: bool = True,
) -> list[dict]:
    """Accuracy under each attack, and the worst case over all attacks of one radius.

    Args:
        classifier: Keras model from images in [0, 1] to logits; run in inference mode.
        images: Float images [n, height, width, channels] in [0, 1].
        labels: Integer labels [n].
        list_of_attacks: The attacks, in order.
        batch_size: Images attacked at a time; bounds the memory used.
        progress: Whether to draw a progress bar on a terminal.

    Returns:
        One row for each attack: its name, epsilon, steps, restarts and settings, `accuracy`
        (0 to 1), the share of images still classified right, and `seconds`. Where several attacks
        share a radius, a row `worst_case` follows: right under every one of them.
    """
    rows: list[dict] = []
    right: dict[float, np.ndarray] = {}
    for attack in list_of_attacks:
        started = time.perf_counter()
        survived = _survivors(classifier, images, labels, attack, batch_size, progress)
        seconds = round(time.perf_counter() - started, 2)
        rows.append(attack.row() | {"accuracy": float(survived.mean()), "seconds": seconds})
        radius = attack.row()["epsilon"]
        right[radius] = right.get(radius, True) & survived
    for radius, survived in right.items():
        same = [row for row in rows if row["epsilon"] == radius]
        if len(same) > 1:
            rows.append(
                {
                    "name": "worst_case",
                    "epsilon": radius,
                    "steps": max(row["steps"] for row in same),
                    "restarts": max(row["restarts"] for row in same),
                    "accuracy": float(survived.mean()),
                    "seconds": round(sum(row["seconds"] for row in same), 2),
                }
            )
    return rows


def _survivors(
    classifier: keras.Model,
    images: np.ndarray,
    labels: np.ndarray,
    attack: Attack,
    batch_size: int,
    progress: bool,
) -> np.ndarray:
    """For each image whether it is still classified right, [n] booleans."""
    name = f"{attack.name} eps={attack.epsilon:.4g}" if attack.steps else attack.name
    right = np.empty(len(images), bool)
    with tqdm.tqdm(total=len(images), desc=name, disable=None if progress else True) as bar:
        for start in range(0, len(images), batch_size):
            part = slice(start, start + batch_size)
            seeded = dataclasses.replace(attack, seed=attack.seed + start)
            adversarial = seeded(classifier, images[part], labels[part], True)
            right[part] = np.argmax(_logits(classifier, adversarial), axis=-1) == labels[part]
            bar.update(len(adversarial))
    return right


def only_class(classifier: keras.Model, images: np.ndarray, batch_size: int = 500) -> int | None:
    """The class that a collapsed classifier gives every image; None if it tells any two apart.

    Args:
        classifier: Keras model from images in [0, 1] to logits; run in inference mode.
        images: Float images [n, height, width, channels] in [0, 1], of several classes.
        batch_size: Images at a time.
    """
    found: set[int] = set()
    for start in range(0, len(images), batch_size):
        logits = _logits(classifier, tf.convert_to_tensor(images[start : start + batch_size]))
        found |= set(np.argmax(logits, axis=-1).tolist())
    return found.pop() if len(found) == 1 else None


@tf.function(reduce_retracing=True)
def _logits(classifier, images):
    return classifier(images, training=False)
