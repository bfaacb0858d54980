"""Accuracy on clean and on adversarial images, every image counted once."""

from __future__ import annotations

import dataclasses
import pathlib
import re
import time
from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf
import tqdm

from jarn_tf import attacks, checks, config
from jarn_tf.attacks.autoattack import VERSIONS
from jarn_tf.files import write_atomically
from jarn_tf.inference import logits_of_all
from jarn_tf.resume import Parts

#: Attacks with the settings of AutoAttack: function and options.
_PARAMETER_FREE = VERSIONS["standard"] | {
    "apgd_dlr": (attacks.apgd, {"loss": "dlr"}),
    "apgd_margin": (attacks.apgd, {"loss": "margin"}),
}
ATTACK_NAMES = (
    "fgsm, pgdK or pgdK_margin with K steps (pgd5, pgd40, pgd40_margin), "
    f"{', '.join(_PARAMETER_FREE)}, autoattack"
)


@dataclasses.dataclass(frozen=True)
class Attack:
    """A named attack at one radius.

    Attributes:
        name: `"clean"`; `"fgsm"`; `"pgdK"` or `"pgdK_margin"` for a whole number K of steps;
            `"apgd_ce"`, `"apgd_dlr"`, `"apgd_margin"`, `"apgd_t"`, `"fab_t"` or `"square"` with the
            settings of AutoAttack; or `"autoattack"`.
        epsilon: L-infinity radius in pixel units of [0, 1].
        restarts: Independent runs, of all but FGSM and AutoAttack.
        step_size: Step of PGD; None for `attacks.pgd`'s own.
        random_start: Whether PGD starts at a random point of the ball.
        seed: Seed of everything random.
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
        config.whole("seed", self.seed, least=0)
        if self.step_size is not None:
            config.positive("step_size", self.step_size)
        known = ("clean", "fgsm", "autoattack", *_PARAMETER_FREE)
        if self.name not in known and not re.fullmatch(r"pgd[1-9]\d*(_margin)?", self.name):
            raise ValueError(f"Unknown attack {self.name!r}. Known: {ATTACK_NAMES}.")

    @property
    def is_pgd(self) -> bool:
        return self.name.startswith("pgd")

    @property
    def steps(self) -> int:
        """Gradient steps of one run; of Square its queries; of AutoAttack those of APGD."""
        if self.is_pgd:
            return int(re.sub(r"\D", "", self.name))
        if self.name in _PARAMETER_FREE:
            return self._options.get("queries", 100)
        return {"clean": 0, "fgsm": 1, "autoattack": 100}[self.name]

    @property
    def loss(self) -> str | None:
        """What FGSM, PGD and APGD climb; None for the other attacks."""
        if self.is_pgd:
            return "margin" if self.name.endswith("_margin") else "cross_entropy"
        return "cross_entropy" if self.name == "fgsm" else self._options.get("loss")

    @property
    def _options(self) -> dict[str, Any]:
        return _PARAMETER_FREE[self.name][1] if self.name in _PARAMETER_FREE else {}

    def __call__(
        self,
        classifier: keras.Model,
        images: np.ndarray,
        labels: np.ndarray,
        stop_when_misclassified: bool = False,
        **resuming: Any,
    ) -> tf.Tensor:
        """Adversarial images.

        Args:
            classifier, images, labels, stop_when_misclassified: As in `attacks.pgd`.
            **resuming: `state` and `progress` of `attacks.autoattack`; no other attack takes long.
        """
        of = (classifier, images, labels)
        if self.name == "clean":
            return tf.convert_to_tensor(images)
        if self.name == "fgsm":
            return attacks.fgsm(*of, epsilon=self.epsilon)
        if self.name == "autoattack":
            return attacks.autoattack(*of, epsilon=self.epsilon, seed=self.seed, **resuming)
        common = {"epsilon": self.epsilon, "restarts": self.restarts, "seed": self.seed}
        if self.name in _PARAMETER_FREE:
            return _PARAMETER_FREE[self.name][0](*of, **common, **self._options)
        return attacks.pgd(
            *of,
            **common,
            step_size=self.step_size,
            steps=self.steps,
            random_start=self.random_start,
            loss=self.loss,
            stop_when_misclassified=stop_when_misclassified,
        )

    def row(self, classes: int = 10) -> dict:
        """What identifies the attack, on so many classes, in `evaluation.json`."""
        row = {"name": self.name, "epsilon": self.epsilon, "steps": self.steps, "restarts": 0}
        if self.name not in ("clean", "fgsm"):
            row["restarts"] = 1 if self.name == "autoattack" else self.restarts
        if self.is_pgd:
            row |= {
                "step_size": self.step_size or attacks.default_step_size(self.epsilon, self.steps),
                "random_start": self.random_start,
            }
        if self.loss:
            targets = self._options.get("targets", 0)
            row["loss"] = attacks.apgd_loss(self.loss, targets, classes)
        few = {"apgd_dlr": 3, "apgd_t": 4, "autoattack": 4}.get(self.name, 0)
        if classes < few:
            row["instead"] = (
                f"the margin is climbed, as {'DLR' if few == 3 else 'the DLR of APGD-T'} needs "
                f"{few} classes and there are {classes}"
            )
        return row


def robustness(
    classifier: keras.Model,
    images: np.ndarray,
    labels: np.ndarray,
    list_of_attacks: Sequence[Attack],
    batch_size: int = 500,
    progress: bool = True,
    parts: Parts | None = None,
    save_to: pathlib.Path | None = None,
) -> list[dict]:
    """Accuracy under each attack, and the worst case over all attacks of one radius.

    Args:
        classifier: Keras model from images in [0, 1] to logits; run in inference mode.
        images: Float images [n, height, width, channels] in [0, 1].
        labels: Integer labels [n] or one-hot rows.
        list_of_attacks: The attacks, in order.
        batch_size: Images attacked at a time; bounds the memory used.
        progress: Whether to draw a progress bar with a time estimate on a terminal.
        parts: Keeps what is done, so that the same call continues an interrupted one.
        save_to: Folder of a file `epsilon_E.npz` for each radius: `images`, for each image the
            first misclassified one that an attack found, else the image itself; `labels`; `right`,
            whether it withstands every attack; `broken_by`, the name of the attack that broke it
            first, `"clean"` where it was misclassified before, `""` where it withstands.

    Returns:
        One row for each attack: its name, epsilon, steps, restarts and settings, `accuracy`
        (0 to 1), the share of images still classified right, and `seconds`. Where several attacks
        share a radius, a row `worst_case` follows: right without an attack and under every one.

    Raises:
        ValueError: Bad images, labels or logits.
    """
    checks.batches(classifier, images, labels, batch_size)
    labels = np.argmax(labels, axis=-1) if np.ndim(labels) == 2 else labels
    parts = parts or Parts(None, {})
    rows: list[dict] = []
    worst: dict[float, _WorstCase] = {}
    clean, _ = _attacked(classifier, images, labels, Attack("clean", 0.0), batch_size, False)
    for number, attack in enumerate(list_of_attacks):
        if attack.epsilon not in worst:
            worst[attack.epsilon] = _WorstCase(clean, images if save_to else None)
        right, seconds = _attacked(
            classifier, images, labels, attack, batch_size, progress, parts, f"{number}_",
            worst[attack.epsilon],
        )  # fmt: skip
        row = attack.row(classifier.output_shape[-1])
        rows.append(row | {"accuracy": float(right.mean()), "seconds": round(seconds, 2)})
    for old in save_to.glob("epsilon_*.npz") if save_to else ():
        old.unlink()
    for radius, case in worst.items():
        same = [row for row in rows if row["epsilon"] == radius]
        if len(same) > 1:
            rows.append(
                {
                    "name": "worst_case",
                    "epsilon": radius,
                    "steps": max(row["steps"] for row in same),
                    "restarts": max(row["restarts"] for row in same),
                    "accuracy": float(case.right.mean()),
                    "seconds": round(sum(row["seconds"] for row in same), 2),
                }
            )
        if save_to and radius:
            case.save(save_to / f"epsilon_{radius!r}.npz", labels)
    return rows


def _attacked(
    classifier: keras.Model,
    images: np.ndarray,
    labels: np.ndarray,
    attack: Attack,
    batch_size: int,
    progress: bool,
    parts: Parts | None = None,
    prefix: str = "",
    worst: _WorstCase | None = None,
) -> tuple[np.ndarray, float]:
    """Which images are still classified right [n], and the seconds taken; counted into `worst`."""
    parts = parts or Parts(None, {})
    right = np.empty(len(images), bool)
    seconds = 0.0
    name = f"{attack.name} eps={attack.epsilon:.4g}" if attack.steps else attack.name
    with tqdm.tqdm(total=len(images), desc=name, disable=None if progress else True) as bar:
        for start in range(0, len(images), batch_size):
            batch = slice(start, start + batch_size)
            part = f"{prefix}{attack.name}_{start}"
            found = parts.part(
                part,
                _attacked_batch,
                (classifier, images[batch], labels[batch]),
                dataclasses.replace(attack, seed=attack.seed + start),
                {"state": parts.folder and parts.folder / part, "progress": progress},
            )
            right[batch] = found["right"]
            if worst:
                worst.add(attack.name, batch, found["images"], found["right"])
            seconds += float(found["seconds"])
            bar.update(len(found["right"]))
    return right, seconds


def _attacked_batch(attacked: tuple, attack: Attack, resuming: dict) -> dict[str, np.ndarray]:
    classifier, _, labels = attacked
    started = time.perf_counter()
    found = attack(*attacked, stop_when_misclassified=True, **resuming)
    logits = logits_of_all(classifier, found, batch_size=len(found))
    right = np.argmax(logits, axis=-1) == labels
    seconds = np.float64(time.perf_counter() - started)
    return {"images": found.numpy(), "right": right, "seconds": seconds}


class _WorstCase:
    """What the attacks of one radius did to each image."""

    def __init__(self, right: np.ndarray, images: np.ndarray | None):
        self.right = right.copy()
        self.images = None if images is None else images.copy()  # only what is saved is kept
        self.broken_by = np.where(right, "", "clean").astype("U32")

    def add(self, name: str, batch: slice, images: np.ndarray, right: np.ndarray) -> None:
        broken = self.right[batch] & ~right
        if self.images is not None:
            self.images[batch][broken] = images[broken]
        self.broken_by[batch][broken] = name
        self.right[batch] &= right

    def save(self, path: pathlib.Path, labels: np.ndarray) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        content = vars(self) | {"labels": labels}
        write_atomically(path, lambda temporary: np.savez_compressed(temporary, **content))


def only_class(classifier: keras.Model, images: np.ndarray, batch_size: int = 500) -> int | None:
    """The class that a collapsed classifier gives every image; None if it tells any two apart.

    Args:
        classifier: Keras model from images in [0, 1] to logits; run in inference mode.
        images: Float images [n, height, width, channels] in [0, 1], of several classes.
        batch_size: Images at a time.
    """
    found = np.unique(np.argmax(logits_of_all(classifier, images, batch_size), axis=-1))
    return int(found[0]) if len(found) == 1 else None
