"""Every table and figure of the paper's experiments, run again, and AutoAttack beside them."""

from __future__ import annotations

import dataclasses
import pathlib
from collections.abc import Callable

from jarn_tf import config
from jarn_tf.files import write_atomically
from jarn_tf.reproduction import (
    autoattack,
    figure2,
    figure3,
    figure4,
    figure5,
    results,
    table4,
    table5,
    tables,
)
from jarn_tf.reproduction.setting import ROWS, SCALES, Setting

__all__ = ["EXPERIMENTS", "ROWS", "SCALES", "Experiment", "Setting", "make_setting", "reproduce"]


@dataclasses.dataclass(frozen=True)
class Experiment:
    """One table or figure.

    Attributes:
        title: What it shows.
        dataset: The paper's dataset.
        rows: The paper's rows, names of `ROWS`.
        cells: Setting to the pieces of work.
        published: (setting, row label, column label) to what the paper prints, or None.
        draw: (setting, results, path) draws the PNG; None for a table.
    """

    title: str
    dataset: str
    rows: tuple[str, ...]
    cells: Callable[[Setting], list[results.Cell]]
    published: Callable[[Setting, str, str], float | None]
    draw: Callable[[Setting, dict, pathlib.Path], None] | None = None


def _no_number(setting: Setting, row: str, column: str) -> None:
    """What the paper prints beside Figures 3 and 4, and of AutoAttack: no number."""


_BASELINES = ("standard", "uniform_noise", "jarn")
_SEVEN = (
    "standard", "uniform_noise", "fgsm_at", "double_backprop", "jarn", "pgd_at", "jarn_at",
)  # fmt: skip

EXPERIMENTS = {
    "table1": Experiment(
        "Table 1: accuracy (%)", "mnist", _BASELINES, tables.cells, tables.published
    ),
    "table2": Experiment(
        "Table 2: accuracy (%)", "svhn", _BASELINES, tables.cells, tables.published
    ),
    "table3": Experiment(
        "Table 3: accuracy (%)", "cifar10", _SEVEN, tables.cells, tables.published
    ),
    "table4": Experiment(
        "Table 4: seconds of training",
        "cifar10",
        ("standard", "pgd_at", "jarn_at", "fgsm_at", "jarn"),
        table4.cells,
        table4.published,
    ),
    "table5": Experiment(
        "Table 5: accuracy (%) under transfer attacks",
        "cifar10",
        ("jarn", "jarn_at"),
        table5.cells,
        table5.published,
    ),
    "figure2": Experiment(
        "Figure 2: accuracy (%) over the radius",
        "cifar10",
        ("jarn_at", "pgd_at", "pgd_at_wide"),
        figure2.cells,
        figure2.published,
        figure2.draw,
    ),
    "figure3": Experiment(
        "Figure 3: the loss around an image",
        "cifar10",
        ("standard", "fgsm_at", "jarn", "jarn_at", "pgd_at"),
        figure3.cells,
        _no_number,
        figure3.draw,
    ),
    "figure4": Experiment(
        "Figure 4: saliency of the Jacobian",
        "cifar10",
        ("standard", "pgd_at", "jarn"),
        figure4.cells,
        _no_number,
        figure4.draw,
    ),
    "figure5": Experiment(
        "Figure 5: accuracy (%) over hyper-parameters",
        "cifar10",
        ("jarn",),
        figure5.cells,
        figure5.published,
        figure5.draw,
    ),
    "autoattack": Experiment(
        "AutoAttack: accuracy (%), and whether gradients are masked",
        "mnist",
        _SEVEN,
        autoattack.cells,
        _no_number,
    ),
}


def make_setting(
    experiment: str,
    output: str | pathlib.Path,
    dataset: str | None = None,
    scale: str = "small",
    preset: str = "paper",
    rows: tuple[str, ...] | None = None,
    seeds: tuple[int, ...] | None = None,
    data_dir: str | None = None,
    substitute: str | None = None,
) -> Setting:
    """A setting with the experiment's own dataset and rows where none are given.

    Raises:
        ValueError: An unknown experiment, dataset, scale, preset or row; a bad list of seeds.
    """
    config.one_of("experiment", experiment, tuple(EXPERIMENTS))
    chosen = EXPERIMENTS[experiment]
    if substitute is not None and experiment != "table5":
        raise ValueError(f"A substitute is for table5 alone. Received: {experiment}.")
    if rows is None:
        rows = chosen.rows
    elif rows == ("all",):
        rows = tuple(ROWS)
    return Setting(
        experiment,
        dataset or chosen.dataset,
        scale,
        preset,
        rows,
        ((0, 1, 2) if scale == "full" else (0,)) if seeds is None else seeds,
        pathlib.Path(output),
        data_dir,
        substitute or None,
    )


def reproduce(setting: Setting) -> str:
    """Runs an experiment, or what is missing of it, and writes its results.

    `EXPERIMENT.json` holds every cell, `EXPERIMENT.csv` and `EXPERIMENT.md` the table with what the
    paper prints beside what was measured, `EXPERIMENT.png` the figure; `models/` the trained
    models, which the experiments of one folder share. An interrupted call goes on where it was.

    Returns:
        The table in Markdown.

    Raises:
        ValueError: The folder holds results of another configuration, or the substitute does not
            fit the images.
        FileNotFoundError: The dataset is not there and cannot be fetched.
        OSError: The folder cannot be written.
    """
    chosen = EXPERIMENTS[setting.experiment]
    cells = chosen.cells(setting)
    results.read(setting)  # refuses other results before anything is written
    stem = setting.output / setting.experiment
    with results.locked(setting.output):
        content = results.run(setting, cells)
        found = content["cells"]
        table = results.numbers(found, lambda row, column: chosen.published(setting, row, column))
        results.write_csv(stem.with_suffix(".csv"), table)
        text = results.markdown(chosen.title, setting, table, content)
        write_atomically(stem.with_suffix(".md"), lambda path: path.write_text(text))
        if chosen.draw is not None:
            write_atomically(
                stem.with_suffix(".png"), lambda path: chosen.draw(setting, found, path)
            )
    return text
