"""What the folder of a run, or of an evaluation, tells of its classifier."""

from __future__ import annotations

import dataclasses
import pathlib
import shlex
from typing import Any, NamedTuple

from jarn_tf.evaluation.interval import interval_text
from jarn_tf.evaluation.report import title_of
from jarn_tf.files import read_json
from jarn_tf.runs import evaluations
from jarn_tf.runs.attacked import OfClass, by_class
from jarn_tf.runs.tables import short, training_command
from jarn_tf.runs.workdir import Workdir

#: Name of a norm in `evaluation.json` to what it is called.
NORMS = {"linf": "L∞", "l2": "L2"}


class Radius(NamedTuple):
    """A radius of attacks: its norm as in `evaluation.json`, and its size."""

    norm: str
    epsilon: float

    def __str__(self):
        return f"{NORMS.get(self.norm, self.norm)} {short(self.epsilon)}"


@dataclasses.dataclass(frozen=True)
class Accuracy:
    """A row of an evaluation: an attack, what it leaves (0 to 1), and of how many images."""

    attack: str
    radius: Radius
    accuracy: float
    examples: int

    @property
    def percent(self) -> str:
        return f"{100 * self.accuracy:.1f} %"

    @property
    def interval(self) -> str:
        """The 95 % interval."""
        return interval_text(self.accuracy, self.examples)


@dataclasses.dataclass(frozen=True)
class Reported:
    """A classifier and what is known of it.

    Attributes:
        folder: That of the run or evaluation.
        name: What it is called beside others.
        dataset: Name of the dataset.
        settings: The settings of the run; empty for a model of one's own.
        cpu_minutes: What the training took; None where nothing says it.
        accuracies: Of each attack and radius the one on most images; those of the verdict, too.
        verdict: The newest, as `Verdict.as_dict` gives it; None if it was never judged.
        classes: Accuracy by class, under all attacks of the newest evaluation.
        versions: Of the newest evaluation, else of the training.
        commands: The command lines behind it; of the evaluations those that are noted.
    """

    folder: pathlib.Path
    name: str
    dataset: str
    settings: dict[str, Any]
    cpu_minutes: float | None
    accuracies: list[Accuracy]
    verdict: dict[str, Any] | None
    classes: list[OfClass]
    versions: dict[str, str]
    commands: list[str]

    @property
    def run(self) -> Workdir:
        return Workdir(self.folder)

    @property
    def clean(self) -> Accuracy | None:
        return next((found for found in self.accuracies if found.attack == "clean"), None)

    @property
    def radii(self) -> list[Radius]:
        return sorted({found.radius for found in self.accuracies if found.radius.epsilon})

    def least(self, radius: Radius, kind: str = "") -> Accuracy | None:
        """The lowest accuracy at a radius; of attacks whose names begin so. None if there is none.

        Of equal ones that under a single attack, not `worst_case`.
        """
        there = [f for f in self.accuracies if f.radius == radius and f.attack.startswith(kind)]
        return min(there, key=lambda f: (f.accuracy, f.attack == "worst_case"), default=None)

    @property
    def missing(self) -> list[str]:
        """What has not been measured, in words."""
        wanted = {
            "accuracy under AutoAttack": any(f.attack == "autoattack" for f in self.accuracies),
            "the verdict on gradient masking": self.verdict is not None,
            "pictures of attacked images": self.run.attacked.is_file(),
        }
        return [what for what, there in wanted.items() if not there]

    @property
    def evaluate_command(self) -> str:
        """The command that measures what is missing."""
        of = [f"--workdir={self.folder}"]
        if not self.settings:
            of = ["--model=FILE.keras", f"--dataset={self.dataset}", f"--output={self.folder}"]
        return shlex.join(
            ["python", "-m", "launch.evaluate", *of, "--attacks=pgd40,autoattack", "--verdict"]
        )


def read(folder: pathlib.Path, name: str) -> Reported:
    """What a folder tells; see `Reported`.

    Raises:
        ValueError: It holds neither a run nor an evaluation, or one that cannot be read.
    """
    run = Workdir(folder)
    try:
        config = read_json(run.config) if run.config.exists() else {}
        settings = run.settings() if config else {}
        found = evaluations.read(folder)
        if not config and not found:
            raise ValueError("there is no readable config.json or evaluation.json")
        if not found and (folder / "evaluation.json").exists():
            raise ValueError("its evaluation.json cannot be read")
        newest = found[0] if found else {}
        verdict = next((each["verdict"] for each in found if each.get("verdict")), None)
        commands = [training_command(settings, folder) if settings else None]
        commands += [each.get("command") for each in reversed(found)]
        return Reported(
            folder,
            name,
            str(settings.get("dataset") or newest.get("dataset", "not noted")),
            settings,
            run.cpu_minutes(),
            _accuracies(found) + _of_verdict(verdict),
            verdict,
            by_class(run.adversarial),
            dict(newest.get("versions") or config.get("versions") or {}),
            [str(command) for command in dict.fromkeys(commands) if command],
        )
    except (AttributeError, KeyError, OSError, TypeError, ValueError) as error:
        raise ValueError(
            f"{folder} cannot be reported: {error}. Name folders that launch.train or "
            "launch.evaluate wrote."
        ) from None


def _accuracies(found: list[dict[str, Any]]) -> list[Accuracy]:
    """Those of all evaluations, newest first; of equal attacks that on most images stays."""
    kept: dict[tuple[str, Radius], Accuracy] = {}
    for evaluated in found:
        for row in evaluated["attacks"]:
            radius = Radius(str(row.get("norm", "linf")), float(row["epsilon"]))
            new = Accuracy(
                title_of(row), radius, float(row["accuracy"]), int(evaluated["examples"])
            )
            old = kept.setdefault((new.attack, radius), new)
            if (new.examples, -new.accuracy) > (old.examples, -old.accuracy):
                kept[new.attack, radius] = new
    return sorted(kept.values(), key=lambda found: found.radius)


def _of_verdict(verdict: dict[str, Any] | None) -> list[Accuracy]:
    """Its attacks at the radius that it was judged at."""
    if not verdict:
        return []
    radius = Radius(str(verdict.get("norm", "linf")), float(verdict["epsilon"]))
    curves = {
        str(name): {float(at): float(value) for at, value in curve.items()}
        for name, curve in verdict.get("accuracies", {}).items()
    }
    return [
        Accuracy(f"{name} (verdict)", radius, curve[radius.epsilon], int(verdict["examples"]))
        for name, curve in curves.items()
        if radius.epsilon in curve
    ]
