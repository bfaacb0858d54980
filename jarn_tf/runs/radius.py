"""Radii of attacks, as pages and pictures call them: `L∞ 0.1`, `L2 0.5`."""

from __future__ import annotations

import pathlib
from typing import Any, NamedTuple

from jarn_tf import arguments
from jarn_tf.runs.tables import short

#: Name of a norm in `evaluation.json` to what it is called.
NORMS = {"linf": "L∞", "l2": "L2"}


class Radius(NamedTuple):
    """A radius of attacks: its norm as in `evaluation.json`, and its size."""

    norm: str
    epsilon: float

    def __str__(self):
        return f"{NORMS[self.norm]} {short(self.epsilon)}"


def radius_of(row: dict[str, Any]) -> Radius:
    """That of a row or a verdict; of L-infinity where it does not say the norm.

    Raises:
        ValueError: Its epsilon is none of that norm.
    """
    radius = Radius(str(row.get("norm", "linf")), float(row["epsilon"]))
    arguments.radius(radius.epsilon, norm=radius.norm)
    return radius


def title_of_file(file: pathlib.Path) -> str:
    """The radius of a file in `adversarial/`; the name of one that says no radius."""
    _, _, radius = file.stem.partition("epsilon_")
    epsilon, _, norm = radius.partition("_")
    try:
        return str(radius_of({"norm": norm or "linf", "epsilon": epsilon}))
    except ValueError:
        return file.stem
