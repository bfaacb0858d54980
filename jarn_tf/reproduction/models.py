"""The trained models that the experiments of one output folder share."""

from __future__ import annotations

import functools
import hashlib
import pathlib
from collections.abc import Callable, Sequence
from typing import Any

import keras

from jarn_tf import data
from jarn_tf.evaluation import Attack, robustness
from jarn_tf.reproduction.results import Cell
from jarn_tf.reproduction.setting import COST, ROWS, Setting
from jarn_tf.runs import evaluating, evaluations, training
from jarn_tf.runs.config import Config
from jarn_tf.runs.workdir import Workdir

#: Dataset to (column, attack): what the paper's table on it shows, then the strongest of them on
#: the margin, which masked gradients do not mislead. Digits stand in for MNIST.
_MNIST = (
    ("FGSM", "fgsm"),
    ("PGD-5", "pgd5"),
    ("PGD-40", "pgd40"),
    ("PGD-40 margin", "pgd40_margin"),
)
_CIFAR10 = (
    ("FGSM", "fgsm"),
    ("PGD-5", "pgd5"),
    ("PGD-10", "pgd10"),
    ("PGD-20", "pgd20"),
    ("PGD-20 margin", "pgd20_margin"),
)
#: Radii of what goes beyond the paper, by the paper's own.
RADII = {0.3: (0.1, 0.2, 0.3), 8 / 255: (2 / 255, 4 / 255, 8 / 255)}
_ATTACKS = {"digits": _MNIST, "mnist": _MNIST, "svhn": _CIFAR10, "cifar10": _CIFAR10}


def trained(setting: Setting, row: str, seed: int, **changes: Any) -> pathlib.Path:
    """The folder of the finished run behind a row; trains it, or goes on, where it is not there.

    Its `evaluation.json` holds the attacks of the paper's table on the dataset, at its own radius.
    """
    config = setting.config(row, seed, **changes)
    folder = workdir(setting, row, seed, changes)
    Workdir(folder).refuse_other_config(config)
    if evaluation(setting, folder, config.epsilon) is None:
        training.train(config, folder, list(attacks(setting, config.epsilon).values()))
    return folder


def evaluation(
    setting: Setting, workdir: pathlib.Path, epsilon: float | None = None
) -> dict[str, Any] | None:
    """A run's evaluation under the `attacks`; None if there is none."""
    images = dataset(setting)
    wanted = list(attacks(setting, epsilon).values())
    return evaluations.find(workdir, wanted, len(images.test), images.classes)


def attacks(setting: Setting, epsilon: float | None = None) -> dict[str, Attack]:
    """Column to attack of the paper's table on the dataset; at the paper's radius unless told."""
    radius = setting.epsilon if epsilon is None else epsilon
    return {column: Attack(name, radius) for column, name in _ATTACKS[setting.dataset]}


def timed(config: Config, folder: pathlib.Path) -> float | None:
    """Trains a run, or goes on with it; the CPU minutes that its training took, if it says."""
    training.train(config, folder, [])
    return Workdir(folder).cpu_minutes()


def withstood(
    setting: Setting,
    classifier: keras.Model,
    split: data.Split,
    attacks: Sequence[str] = ("pgd20_margin", "pgd20"),
) -> dict[str, float]:
    """`clean` and label of each of `RADII` to the share of images, in %, right under all attacks.

    The attacks unless told are for choosing settings by validation images; AutoAttack has the last
    word.
    """
    listed = [Attack("clean", 0.0)]
    listed += [Attack(name, radius) for radius in RADII[setting.epsilon] for name in attacks]
    rows = robustness(classifier, split.floats, split.labels, listed)
    worst = {row["epsilon"]: row["accuracy"] for row in rows}  # the worst case is the last of them
    return {
        radius_label(setting, radius) if radius else "clean": 100 * accuracy
        for radius, accuracy in worst.items()
    }


def radius_label(setting: Setting, radius: float) -> str:
    """A radius as the paper writes it on the dataset: `eps 0.3`, `eps 8/255`."""
    return f"eps {radius:g}" if setting.epsilon == 0.3 else f"eps {radius * 255:g}/255"


def training_cost(setting: Setting, row: str, seed: int, **changes: Any) -> float:
    """What `trained` will cost, in the unit of `COST`: nothing where the model is there."""
    there = (workdir(setting, row, seed, changes) / "evaluation.json").exists()
    return 0.0 if there else COST[row]


def cell_per_model(
    setting: Setting, compute: Callable[[Setting, str, int], dict[str, Any]], extra: float = 0.0
) -> list[Cell]:
    """One cell a row and seed, which trains the row's model and costs `extra` on top."""
    return [
        Cell(
            f"{ROWS[row]}, seed {seed}",
            seed,
            training_cost(setting, row, seed) + extra,
            functools.partial(_noted, compute, setting, row, seed),
        )
        for seed in setting.seeds
        for row in setting.rows
    ]


def _noted(compute: Callable, setting: Setting, row: str, seed: int) -> dict[str, Any]:
    result = compute(setting, row, seed)
    notes = [*result.get("notes", ()), *collapse_notes(setting, row, "", seed)]
    return result | {"notes": notes}


def collapse_notes(
    setting: Setting, row: str, variant: str, seed: int, **changes: Any
) -> list[str]:
    """A line below the table where the trained model of a row, or a variant of it, collapsed."""
    folder = workdir(setting, row, seed, changes)
    to = evaluation(setting, folder, changes.get("epsilon"))["collapsed_to_class"]
    name = ", ".join(filter(None, (ROWS[row], variant, f"seed {seed}")))
    return [] if to is None else [f"{name} has collapsed: it takes every image for class {to}."]


def workdir(setting: Setting, row: str, seed: int, changes: dict[str, Any]) -> pathlib.Path:
    """The folder of the run behind a row, with what is changed in the row's settings."""
    name = f"{setting.dataset}_{setting.scale}_{setting.preset}_{row}_seed{seed}"
    changed = "".join(f"_{field}_{value}" for field, value in changes.items())
    if len(changed) > 120:  # a file's name has 255 bytes at most
        changed = f"_{hashlib.sha256(changed.encode()).hexdigest()[:12]}"
    return setting.output / "models" / (name + changed)


def accuracies(
    setting: Setting, workdir: pathlib.Path, epsilon: float | None = None
) -> dict[str, float]:
    """Column to accuracy in %, from a run's `evaluation.json`; `worst` is of all its attacks."""
    rows = evaluation(setting, workdir, epsilon)["attacks"]
    found = {row["name"]: 100 * row["accuracy"] for row in rows}
    columns = dict(_ATTACKS[setting.dataset]) | {"worst": "worst_case", "clean": "clean"}
    return {column: found[attack] for column, attack in columns.items()}


def classifier(workdir: pathlib.Path) -> keras.Model:
    """A run's classifier, ready to attack."""
    return evaluating.finished_run(workdir).model


def dataset(setting: Setting) -> data.Dataset:
    """The dataset at the setting's scale."""
    config = setting.config(setting.rows[0], 0)
    return _load(setting.dataset, setting.data_dir, config.train_examples, config.test_examples)


_load = functools.lru_cache(maxsize=1)(data.load)
