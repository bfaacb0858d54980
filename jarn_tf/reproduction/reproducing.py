"""`reproduce`: an experiment and its settings, all that `launch.reproduce` calls."""

from __future__ import annotations

import importlib
import pathlib

from jarn_tf import arguments
from jarn_tf.files import write_atomically
from jarn_tf.reproduction import results
from jarn_tf.reproduction.experiment import Experiment
from jarn_tf.reproduction.setting import EXPERIMENTS, ROWS, Setting
from jarn_tf.runs.workdir import locked


def find(name: str) -> Experiment:
    """The experiment of a name. ValueError for an unknown one."""
    arguments.one_of("The experiment", name, tuple(EXPERIMENTS))
    module = importlib.import_module(f"jarn_tf.reproduction.{EXPERIMENTS[name]}")
    return getattr(module, name.upper())


def make_setting(
    experiment: str,
    output: str | pathlib.Path,
    dataset: str | None = None,
    scale: str = "small",
    preset: str | None = None,
    rows: tuple[str, ...] | None = None,
    seeds: tuple[int, ...] | None = None,
    data_dir: str | None = None,
    substitute: str | None = None,
) -> Setting:
    """A setting with the experiment's own dataset, preset and rows where none are given.

    Raises:
        ValueError: An unknown experiment, dataset, scale, preset or row; a bad list of seeds.
    """
    chosen = find(experiment)
    if substitute is not None and experiment != "table5":
        raise ValueError(f"A substitute is for table5 alone. Received: {experiment}.")
    if rows is None:
        rows = chosen.rows
    elif rows == ("all",):
        rows = tuple(ROWS)
    if chosen.variants and set(rows) - set(chosen.rows):
        others = ",".join(row for row in rows if row not in chosen.rows)
        raise ValueError(f"rows must be some of {', '.join(chosen.rows)}. Received: {others}.")
    return Setting(
        experiment,
        dataset or chosen.dataset,
        scale,
        preset or chosen.preset,
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
    chosen = find(setting.experiment)
    cells = chosen.cells(setting)
    results.read(setting)  # refuses other results before anything is written
    stem = setting.output / setting.experiment
    with locked(setting.output):
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
