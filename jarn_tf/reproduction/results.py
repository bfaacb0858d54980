"""Results of one experiment: computed cell by cell, kept in a file, reported as a table."""

from __future__ import annotations

import csv
import dataclasses
import datetime
import os
import pathlib
import platform
import statistics
import time
from collections.abc import Callable, Collection, Sequence
from typing import Any

from jarn_tf import differences
from jarn_tf.durations import in_words
from jarn_tf.evaluation.interval import interval_text
from jarn_tf.files import read_json, write_atomically, write_json
from jarn_tf.reproduction.setting import ROWS, SETTINGS_OF, Setting, digest_of_run
from jarn_tf.runs.config import Config
from jarn_tf.runs.workdir import versions


@dataclasses.dataclass(frozen=True)
class Cell:
    """A piece of work whose result is kept.

    Attributes:
        name: Its key in the result file.
        seed: Its seed.
        cost: How long it takes beside the other cells, in any unit; for the time estimate.
        compute: The work. Returns `values`, row label to column label to number; `examples`, where
            these are accuracies on so many test images; and whatever else a figure is drawn from;
            JSON values.
        run: The training behind it, where the name alone does not say which.
        asked: What is asked of the trained model, where the name does not say it; JSON values.
        after: Names of the cells that it is made from: a result older than one of them is no
            longer one.
    """

    name: str
    seed: int
    cost: float
    compute: Callable[[], dict[str, Any]]
    run: Config | None = None
    asked: Any = None
    after: tuple[str, ...] = ()

    def kept(self) -> dict[str, Any]:
        """What stands beside its result, by which it is known again."""
        known = {"run": self.run and digest_of_run(self.run), "asked": self.asked}
        return {"seed": self.seed} | {name: value for name, value in known.items() if value}


@dataclasses.dataclass(frozen=True)
class Number:
    """Mean and spread (sample standard deviation) over seeds; None for the spread of one."""

    row: str
    column: str
    published: float | None
    mean: float
    spread: float | None
    seeds: int


def run(setting: Setting, cells: Sequence[Cell]) -> dict[str, Any]:
    """Computes the cells that `EXPERIMENT.json` in the output folder does not hold yet.

    Returns:
        What the file then holds: `cells`, name to result, also of rows and seeds asked for before;
        `machine`, `date` and `versions`.

    Raises:
        ValueError: The file cannot be read or is of another configuration; it is left as it is.
    """
    content = read(setting)
    for cell in cells:
        there, kept = content["cells"].get(cell.name, {}), cell.kept()
        if any(there.get(name) not in (None, kept.get(name)) for name in ("run", "asked")):
            raise ValueError(
                f"{_path(setting)} holds {cell.name} of another configuration. "
                "Name another --output."
            )
    missing = [cell for cell in cells if {cell.name, *cell.after} - set(content["cells"])]
    done = len(cells) - len(missing)
    if done:
        print(f"{setting.experiment}: {done} of {len(cells)} results are there already.")
    spent = finished = 0.0
    for number, cell in enumerate(missing, done + 1):
        left = sum(other.cost for other in missing[number - done - 1 :])
        estimate = f"; about {in_words(spent / finished * left)} left" if finished else ""
        print(f"[{number}/{len(cells)}] {setting.experiment}: {cell.name}{estimate}", flush=True)
        started = time.perf_counter()
        result = cell.compute()
        seconds = time.perf_counter() - started
        spent, finished = spent + seconds, finished + cell.cost
        content["cells"][cell.name] = cell.kept() | {"seconds": round(seconds, 1)} | result
        content["date"] = datetime.date.today().isoformat()
        write_json(_path(setting), content)
    return content


def read(setting: Setting) -> dict[str, Any]:
    """The result file, or what a new one begins with.

    Raises:
        ValueError: The file cannot be read or is of another configuration; it is left as it is.
    """
    path = _path(setting)
    new = {
        "setting": setting.identity(),
        "machine": f"{os.cpu_count()} CPUs ({platform.machine()})",
        "versions": versions(),
        "cells": {},
    }
    if not path.exists():
        return new
    try:
        content = read_json(path)
        there, content["cells"] = dict(content["setting"]), dict(content["cells"])
        for cell in content["cells"].values():
            dict(cell["values"]), int(cell["seed"]), int(cell.get("examples", 1))
        str(content["machine"]), str(content["date"]), str(content["versions"]["tensorflow"])
    except (OSError, KeyError, TypeError, ValueError) as error:
        raise ValueError(
            f"{path} is no readable result file ({error}). Move it away or name another --output."
        ) from None
    here = setting.identity()
    new_rows = {name: here[name] for name in here if name.startswith(SETTINGS_OF)}
    content["setting"] = new_rows | there
    if other := differences.in_words(content["setting"], here):
        raise ValueError(
            f"{path} holds results of another configuration: {other}. Name another --output."
        )
    return content


def _path(setting: Setting) -> pathlib.Path:
    return setting.output / f"{setting.experiment}.json"


def numbers(
    results: dict[str, dict[str, Any]], published: Callable[[str, str], float | None]
) -> list[Number]:
    """Every row and column of the results, over their seeds, beside what the paper prints."""
    values: dict[tuple[str, str], dict[int, float]] = {}
    for result in results.values():
        for row, columns in result["values"].items():
            for column, value in columns.items():
                if value is not None:
                    values.setdefault((row, column), {})[result["seed"]] = value
    return [
        Number(
            row,
            column,
            published(row, column),
            statistics.fmean(found.values()),
            statistics.stdev(found.values()) if len(found) > 1 else None,
            len(found),
        )
        for (row, column), found in values.items()
    ]


def write_csv(path: pathlib.Path, table: Sequence[Number]) -> None:
    """One line a number, with all its digits."""

    def write(temporary):
        with open(temporary, "w", newline="") as file:
            writer = csv.writer(file)
            writer.writerow([field.name for field in dataclasses.fields(Number)])
            writer.writerows(dataclasses.astuple(number) for number in table)

    write_atomically(path, write)


def markdown(title: str, setting: Setting, table: Sequence[Number], content: dict) -> str:
    """The report: a line a row, with mean, spread over seeds and "paper" beside it.

    Args:
        title: Its heading.
        setting: What was run.
        table: The `numbers` of the result file.
        content: The result file.
    """
    columns = list(dict.fromkeys(number.column for number in table))
    cells = {(number.row, number.column): _shown(number) for number in table}
    lines = [["model", *columns, "seeds"], ["---"] * (len(columns) + 2)]
    for row in dict.fromkeys(number.row for number in table):
        name, *rest = row.split(", ")
        label = ", ".join([ROWS.get(name, name), *rest])
        of_row = max(number.seeds for number in table if number.row == row)
        lines.append([label, *(cells.get((row, c), "") for c in columns), str(of_row)])
    results = content["cells"].values()
    seeds = sorted({result["seed"] for result in results})
    listed = f"seed {seeds[0]}"
    if len(seeds) > 1:
        listed = f"seeds {', '.join(map(str, seeds))}: mean ± standard deviation"
    return "".join(
        [
            f"## {title}\n\n",
            f"{setting.dataset}, scale {setting.scale}, preset {setting.preset}, {listed}. "
            f"{_sample(results)}{content['machine']}, TensorFlow "
            f"{content['versions']['tensorflow']}, {content['date']}.\n\n",
            *(f"| {' | '.join(line)} |\n" for line in lines),
            *(f"\n{note}\n" for result in results for note in result.get("notes", ())),
        ]
    )


def _sample(results: Collection[dict]) -> str:
    """How many images the accuracies are of, where the cells say it, and what that leaves open."""
    return "".join(
        f"{examples:,} test images: 50 % on them has the 95 % interval "
        f"{interval_text(0.5, examples)}. "
        for examples in sorted({int(r["examples"]) for r in results if "examples" in r})
    )


def _shown(number: Number) -> str:
    shown = _digits(number.mean)
    if number.spread is not None:
        shown += f" ± {_digits(number.spread)}"
    return shown if number.published is None else f"{shown} (paper {number.published:g})"


def _digits(value: float) -> str:
    """One decimal, or three significant digits of what would lose them by that."""
    return f"{value:.1f}" if abs(value) >= 10 or value == 0 else f"{value:.3g}"
