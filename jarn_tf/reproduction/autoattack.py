"""Beyond the paper: AutoAttack and the masking verdict beside the paper's attacks."""

from __future__ import annotations

from jarn_tf.evaluation import Attack
from jarn_tf.reproduction import models
from jarn_tf.reproduction.experiment import Experiment
from jarn_tf.reproduction.results import Cell
from jarn_tf.reproduction.setting import ROWS, SEVEN, Setting
from jarn_tf.runs import evaluating, evaluations

_IMAGES = 1000


def cells(setting: Setting) -> list[Cell]:
    """One cell a row and seed; its images, figure and evidence lie in the model's folder."""
    return models.cell_per_model(setting, _cell, extra=20)


def _cell(setting: Setting, row: str, seed: int) -> dict:
    workdir = models.trained(setting, row, seed)
    attacks = models.attacks(setting) | {"AutoAttack": Attack("autoattack", setting.epsilon)}
    wanted, test = list(attacks.values()), models.dataset(setting).test.first(_IMAGES)
    asked = (wanted, len(test))
    found = evaluations.find(
        workdir, *asked, models.dataset(setting).classes, setting.epsilon
    ) or evaluating.evaluate(
        evaluating.finished_run(workdir), *asked, setting.data_dir, setting.epsilon
    )
    accuracy = {row["name"]: 100 * row["accuracy"] for row in found["attacks"]}
    values = {column: accuracy[attack.name] for column, attack in attacks.items()}
    verdict = found["verdict"]
    said_by = [p["name"] for p in verdict["evidence"] if p["label"] == verdict["label"]]
    because = "" if verdict["label"] == "not masked" else f" ({', '.join(said_by)})"
    return {
        "values": {row: values | {"clean": accuracy["clean"]}},
        "examples": len(test),
        "notes": [f"{ROWS[row]}, seed {seed}: gradients {verdict['label']}{because}."],
    }


AUTOATTACK = Experiment(
    "AutoAttack: accuracy (%), and whether gradients are masked", "mnist", SEVEN, cells
)
