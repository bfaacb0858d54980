"""What the folder of a run, or of an evaluation, tells of its classifier."""

from __future__ import annotations

import dataclasses
import pathlib
from typing import Any

from jarn_tf.evaluation.interval import interval_text
from jarn_tf.evaluation.report import title_of, warnings_of
from jarn_tf.files import read_json
from jarn_tf.runs import evaluate_command, evaluations
from jarn_tf.runs.attacked import OfClass, by_class
from jarn_tf.runs.radius import Radius, radius_of
from jarn_tf.runs.tables import training_command
from jarn_tf.runs.workdir import Workdir

#: What `worst_case` is called.
_WORST = "the worst of all attacks on each image"
#: Radii of one page: it draws and says each of them.
_MOST_RADII = 100


@dataclasses.dataclass(frozen=True)
class Accuracy:
    """A row of an evaluation: an attack, what it leaves (0 to 1), and of how many images.

    `clean_accuracy` is that of the same images.
    """

    attack: str
    radius: Radius
    accuracy: float
    examples: int
    clean_accuracy: float

    @property
    def clean(self) -> Accuracy:
        """The same images without an attack."""
        radius, clean = Radius(self.radius.norm, 0.0), self.clean_accuracy
        return Accuracy("clean", radius, clean, self.examples, clean)

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
        warnings: What is wrong with it by the newest evaluation, a line each.
        classes: Accuracy by class, under all attacks of the newest evaluation.
        versions: Of the newest evaluation, else of the training.
        commands: The command lines behind it; of the evaluations those that are noted.
        evaluated_by: The newest of those; None if none is noted.
    """

    folder: pathlib.Path
    name: str
    dataset: str
    settings: dict[str, Any]
    cpu_minutes: float | None
    accuracies: list[Accuracy]
    verdict: dict[str, Any] | None
    warnings: list[str]
    classes: list[OfClass]
    versions: dict[str, str]
    commands: list[str]
    evaluated_by: str | None

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

        Of equal ones that under a single attack.
        """
        there = [f for f in self.accuracies if f.radius == radius and f.attack.startswith(kind)]
        return min(there, key=lambda f: (f.accuracy, f.attack == _WORST), default=None)

    @property
    def _has_autoattack(self) -> bool:
        return any(found.attack.startswith("autoattack") for found in self.accuracies)

    @property
    def missing(self) -> list[str]:
        """What has not been measured, in words."""
        wanted = {
            "accuracy under AutoAttack": self._has_autoattack,
            "the verdict on gradient masking": self.verdict is not None,
            "pictures of attacked images": self.run.attacked.is_file(),
        }
        return [what for what, there in wanted.items() if not there]

    @property
    def evaluate_command(self) -> str:
        """The command that measures what is missing."""
        if self.evaluated_by:
            return evaluate_command.completed(
                self.evaluated_by, not self._has_autoattack, self.verdict is None
            )
        of = [f"--workdir={self.folder}"]
        if not self.settings:
            of = ["--model=FILE.keras", f"--dataset={self.dataset}", f"--output={self.folder}"]
        return evaluate_command.for_all(of)


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
        noted = [each.get("command") for each in found]
        commands += reversed(noted)
        return Reported(
            folder,
            name,
            str(settings.get("dataset") or newest.get("dataset", "not noted")),
            settings,
            run.cpu_minutes(),
            _accuracies(found) + _of_verdict(verdict),
            verdict,
            warnings_of(newest) if found else [],
            by_class(run.adversarial),
            dict(newest.get("versions") or config.get("versions") or {}),
            [str(command) for command in dict.fromkeys(commands) if command],
            next(filter(evaluate_command.is_noted, noted), None),
        )
    except (AttributeError, KeyError, OSError, TypeError, ValueError) as error:
        reason = str(error).rstrip(".")
        raise ValueError(
            f"{folder} cannot be reported: {reason}. Name folders that launch.train or "
            "launch.evaluate wrote."
        ) from None


def _accuracies(found: list[dict[str, Any]]) -> list[Accuracy]:
    """Those of all evaluations, newest first; of equal attacks that on most images stays."""
    kept: dict[tuple[str, Radius], Accuracy] = {}
    for evaluated in found:
        rows = evaluated["attacks"]
        clean = next(float(row["accuracy"]) for row in rows if row["name"] == "clean")
        for row in rows:
            attack = _WORST if row["name"] == "worst_case" else title_of(row)
            radius, left = radius_of(row), float(row["accuracy"])
            new = Accuracy(attack, radius, left, int(evaluated["examples"]), clean)
            old = kept.setdefault((attack, radius), new)
            if (new.examples, -new.accuracy) > (old.examples, -old.accuracy):
                kept[attack, radius] = new
    radii = len({radius for _, radius in kept})
    if radii > _MOST_RADII:
        raise ValueError(f"its evaluation.json has {radii} radii, of at most {_MOST_RADII}")
    return sorted(kept.values(), key=lambda found: (found.attack != "clean", found.radius))


def _of_verdict(verdict: dict[str, Any] | None) -> list[Accuracy]:
    """Its attacks at the radius that it was judged at."""
    if not verdict:
        return []
    radius = radius_of(verdict)
    curves = {
        str(name): {float(at): float(value) for at, value in curve.items()}
        for name, curve in verdict.get("accuracies", {}).items()
    }
    return [
        Accuracy(
            f"{name} (verdict)", radius, curve[radius.epsilon], int(verdict["examples"]), curve[0.0]
        )
        for name, curve in curves.items()
        if {0.0, radius.epsilon} <= curve.keys()
    ]
