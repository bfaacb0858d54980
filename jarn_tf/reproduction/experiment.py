"""What a table or a figure is."""

from __future__ import annotations

import dataclasses
import pathlib
from collections.abc import Callable, Iterable

from jarn_tf.reproduction.results import Cell
from jarn_tf.reproduction.setting import Setting


def no_number(setting: Setting, row: str, column: str) -> None:
    """What the paper prints beside Figures 3 and 4, and of AutoAttack: no number."""


def refuse_other_row(row: str, rows: Iterable[str]) -> None:
    """Raises ValueError unless `row` is one of `rows`, those that an experiment has cells of."""
    if row not in rows:
        raise ValueError(f"rows must be some of {', '.join(rows)}. Received: {row}.")


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
        preset: The preset of its models unless told.
    """

    title: str
    dataset: str
    rows: tuple[str, ...]
    cells: Callable[[Setting], list[Cell]]
    published: Callable[[Setting, str, str], float | None] = no_number
    draw: Callable[[Setting, dict, pathlib.Path], None] | None = None
    preset: str = "paper"
