"""Beyond the paper: AutoAttack and the masking verdict beside the paper's attacks."""

from __future__ import annotations

import dataclasses

from jarn_tf import experiment
from jarn_tf.evaluation import Attack
from jarn_tf.reproduction import runs
from jarn_tf.reproduction.results import Cell
from jarn_tf.reproduction.setting import ROWS, Setting

_IMAGES = 1000


def cells(setting: Setting) -> list[Cell]:
    """One cell a row and seed; its images, figure and evidence lie in the model's `autoattack/`."""
    return runs.cell_per_model(setting, _cell, extra=20)


def _cell(setting: Setting, row: str, seed: int) -> dict:
    workdir = runs.trained(setting, row, seed)
    target = dataclasses.replace(
        experiment.finished_run(workdir),
        data_dir=setting.data_dir,
        output=workdir / "autoattack",
    )
    attacks = runs.attacks(setting) | {"AutoAttack": Attack("autoattack", setting.epsilon)}
    images = min(_IMAGES, len(runs.dataset(setting).test))
    rows = experiment.evaluate(
        target, list(attacks.values()), images, verdict_epsilon=setting.epsilon
    )
    found = {row["name"]: 100 * row["accuracy"] for row in rows}
    values = {column: found[attack.name] for column, attack in attacks.items()}
    verdict = experiment.read_evaluation(target.output)["verdict"]
    said_by = [p["name"] for p in verdict["evidence"] if p["label"] == verdict["label"]]
    because = "" if verdict["label"] == "not masked" else f" ({', '.join(said_by)})"
    return {
        "values": {row: values | {"clean": found["clean"]}},
        "notes": [f"{ROWS[row]}, seed {seed}: gradients {verdict['label']}{because}."],
    }
