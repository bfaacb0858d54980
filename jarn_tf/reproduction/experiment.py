"""What a table or a figure is."""

from __future__ import annotations

import dataclasses
import pathlib
from collections.abc import Callable

from jarn_tf.reproduction.results import Cell
from jarn_tf.reproduction.setting import Setting


def no_number(setting: Setting, row: str, column: str) -> None:
    """What the paper prints beside Figures 3 and 4, and of AutoAttack: no number."""


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
        variants: Whether its models are variants of `rows`, which no other row has.
    """

    title: str
    dataset: str
    rows: tuple[str, ...]
    cells: Callable[[Setting], list[Cell]]
    published: Callable[[Setting, str, str], float | None] = no_number
    draw: Callable[[Setting, dict, pathlib.Path], None] | None = None
    preset: str = "paper"
    variants: bool = False
