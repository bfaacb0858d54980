"""Figure 4: Jacobians of the models side by side, and their saliency as numbers."""

from __future__ import annotations

import pathlib

from jarn_tf import evaluation, input_jacobian
from jarn_tf.evaluation import signed_to_pixels
from jarn_tf.reproduction import models
from jarn_tf.reproduction.experiment import Experiment
from jarn_tf.reproduction.results import Cell
from jarn_tf.reproduction.setting import ROWS, Setting

_IMAGES = 10


def cells(setting: Setting) -> list[Cell]:
    """One cell a row and seed."""
    return models.cell_per_model(setting, _cell)


def _cell(setting: Setting, row: str, seed: int) -> dict:
    found = models.evaluation(setting, models.trained(setting, row, seed))["saliency"]
    correlation = found["jacobian_image_correlation"]
    return {
        "values": {
            row: {
                "alignment alpha": found["alignment"],
                "linearised robustness rho": found["linearised_robustness"],
                "correlation, J of the loss": correlation["loss"],
                "correlation, J of the logit": correlation["logit"],
                "images without gradient, %": 100 * found["zero_gradients"],
                "zero gradient entries, %": 100 * found["zero_gradient_entries"],
            }
        }
    }


def draw(setting: Setting, results: dict, path: pathlib.Path) -> None:
    """The first test images, and below them the Jacobian of the loss of each model."""
    test = models.dataset(setting).test.first(_IMAGES)
    seed = min(setting.seeds)
    rows = {"image": test.floats}
    for row in setting.rows:
        classifier = models.classifier(models.trained(setting, row, seed))
        jacobians = input_jacobian(classifier, test.floats, test.labels).numpy()
        rows[ROWS[row]] = signed_to_pixels(jacobians)
    title = f"Jacobians of the loss, {setting.dataset}, seed {seed} (grey is 0)"
    evaluation.jacobian_figure(path, rows, test.labels, title)


FIGURE4 = Experiment(
    "Figure 4: saliency of the Jacobian",
    "cifar10",
    ("standard", "pgd_at", "jarn"),
    cells,
    draw=draw,
)
