"""Attacks by name, as command lines and tables call them."""

from __future__ import annotations

import dataclasses
import os
import re
from typing import Any

import keras
import numpy as np

from jarn_tf import arguments, attacks
from jarn_tf.attacks.autoattack import VERSIONS
from jarn_tf.attacks.batches import Images, Labels, in_batches

#: Attacks with the settings of AutoAttack: function and options.
_PARAMETER_FREE = VERSIONS["standard"] | {
    "apgd_dlr": (attacks.apgd, {"loss": "dlr"}),
    "apgd_margin": (attacks.apgd, {"loss": "margin"}),
}


@dataclasses.dataclass(frozen=True)
class Attack:
    """A named attack at one radius.

    Attributes:
        name: `"clean"`; `"fgsm"`; `"pgdK"` or `"pgdK_margin"` for a whole number K of steps;
            `"apgd_ce"`, `"apgd_dlr"`, `"apgd_margin"`, `"apgd_t"`, `"fab_t"` or `"square"` with the
            settings of AutoAttack; or `"autoattack"`.
        epsilon: Radius, pixels being in [0, 1].
        restarts: Independent runs, of all but FGSM and AutoAttack.
        step_size: Step of PGD; None for `attacks.pgd`'s own.
        random_start: Whether PGD starts at a random point of the ball.
        seed: Seed of everything random.
        norm: What epsilon is measured in: `"linf"` or `"l2"`.
        version: Of AutoAttack: `"standard"`, `"plus"` or `"rand"`.
    """

    name: str
    epsilon: float
    restarts: int = 1
    step_size: float | None = None
    random_start: bool = True
    seed: int = 0
    norm: str = "linf"
    version: str = "standard"

    def __post_init__(self):
        arguments.attack(self.name)
        arguments.radius(self.epsilon, norm=self.norm)
        arguments.one_of("version", self.version, arguments.VERSIONS)
        arguments.whole("restarts", self.restarts)
        arguments.seed(self.seed)
        if self.step_size is not None:
            arguments.positive("step_size", self.step_size)

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
        images: Images,
        labels: Labels = None,
        stop_when_misclassified: bool = False,
        batch_size: int = 500,
        progress: bool = False,
        state: str | os.PathLike | None = None,
    ) -> np.ndarray:
        """Adversarial images.

        Args:
            classifier, images, labels, stop_when_misclassified, batch_size, progress: As in
                `attacks.pgd`.
            state: As in `attacks.autoattack`; no other attack takes long.
        """
        of = (classifier, images, labels)
        common = {"batch_size": batch_size, "progress": progress}
        if self.name == "clean":
            return in_batches("clean", lambda images, labels, first: images, *of, **common)
        common |= {"epsilon": self.epsilon, "norm": self.norm}
        if self.name == "fgsm":
            return attacks.fgsm(*of, **common)
        common["seed"] = self.seed
        if self.name == "autoattack":
            return attacks.autoattack(*of, **common, version=self.version, state=state)
        common["restarts"] = self.restarts
        if self.name in _PARAMETER_FREE:
            attack, options = _PARAMETER_FREE[self.name]
            return attack(*of, **common, **options)
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
        row = {
            "name": self.name,
            "epsilon": self.epsilon,
            "norm": self.norm,
            "steps": self.steps,
            "restarts": 0,
        }
        if self.name not in ("clean", "fgsm"):
            row["restarts"] = 1 if self.name == "autoattack" else self.restarts
            row["seed"] = self.seed
        if self.name == "autoattack" and self.version != "standard":
            row["version"] = self.version
        if self.is_pgd:
            row |= {
                "step_size": self.step_size or attacks.default_step_size(self.epsilon, self.steps),
                "random_start": self.random_start,
            }
        if self.loss:
            targets = self._options.get("targets", 0)
            row["loss"] = attacks.apgd_loss(self.loss, targets, classes)
        few = {"apgd_dlr": 3, "apgd_t": 4, "autoattack": 4}.get(self.name, 0)
        few = 3 if self.version == "rand" and few else few
        if classes < few:
            row["instead"] = (
                f"the margin is climbed, as {'DLR' if few == 3 else 'the DLR of APGD-T'} needs "
                f"{few} classes and there are {classes}"
            )
        return row
