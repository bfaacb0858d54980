"""Table 5: accuracy on adversarial examples that were made on another model."""

from __future__ import annotations

import keras

from jarn_tf import evaluation
from jarn_tf.evaluation import Attack
from jarn_tf.reproduction import models
from jarn_tf.reproduction.experiment import Experiment
from jarn_tf.reproduction.published import TRANSFER
from jarn_tf.reproduction.results import Cell
from jarn_tf.reproduction.setting import ROWS, Setting
from jarn_tf.runs import saved

_ATTACKS = {"FGSM": "fgsm", "PGD-20": "pgd20"}


def cells(setting: Setting) -> list[Cell]:
    """One cell a row and seed; the differently initialised copy has the next seed.

    Raises:
        ValueError: The substitute cannot be loaded or does not fit the dataset.
    """
    if setting.substitute:  # before hours of training
        substitute = saved.load_classifier(setting.substitute)
        images = models.dataset(setting)
        saved.refuse_other_shape(substitute, setting.dataset, images.image_shape, images.classes)
    return models.cell_per_model(setting, _cell, extra=10)


def _cell(setting: Setting, row: str, seed: int) -> dict:
    def model(name: str, seed: int) -> keras.Model:
        return models.classifier(models.trained(setting, name, seed))

    target = model(row, seed)
    if setting.substitute:
        sources = {"substitute": saved.load_classifier(setting.substitute)}
    else:
        sources = {ROWS["pgd_at"]: model("pgd_at", seed)}
    sources |= {"same model": model(row, seed + 1), "white-box": target}
    test = models.dataset(setting).test
    attacks = [Attack(attack, setting.epsilon) for attack in _ATTACKS.values()]
    clean = evaluation.robustness(target, test.floats, test.labels, [Attack("clean", 0.0)])
    values = {}
    for source, substitute in sources.items():
        found = evaluation.transfer(
            {"classifier": target}, substitute, test.floats, test.labels, attacks
        )["classifier"]
        for column, attack in _ATTACKS.items():
            values[f"{source}, {column}"] = 100 * found[attack]
    values["clean"] = 100 * clean[0]["accuracy"]
    return {"values": {row: values}, "examples": len(test)}


def published(setting: Setting, row: str, column: str) -> float | None:
    """The paper's accuracy, on CIFAR-10 alone."""
    return TRANSFER.get((row, column)) if setting.dataset == "cifar10" else None


TABLE5 = Experiment(
    "Table 5: accuracy (%) under transfer attacks",
    "cifar10",
    ("jarn", "jarn_at"),
    cells,
    published,
)
