"""`evaluation.json`: every evaluation of one classifier.

The newest stands at the top level: `dataset`, `examples`, `attacks` (the rows of
`evaluation.robustness`), `saliency`, `collapsed_to_class`, `versions`, `model` (a digest of the
classifier) and, if it was judged, `verdict`. The others stand in the same form in the list
`earlier`, newest first.
"""

from __future__ import annotations

import json
import pathlib
from collections.abc import Sequence
from typing import Any

from jarn_tf.evaluation import Attack
from jarn_tf.files import write_json

_NEEDED = {"examples", "attacks", "saliency", "collapsed_to_class"}
#: Keys of a row that say what came out; the others say what was asked.
_OUTCOME = ("accuracy", "seconds")


def read(folder: pathlib.Path) -> list[dict[str, Any]]:
    """The evaluations in a folder, newest first; none where the file is not there or unreadable."""
    try:
        newest = dict(json.loads((folder / "evaluation.json").read_text()))
        everything = [newest, *newest.pop("earlier", [])]
        return [found for found in everything if set(found) >= _NEEDED]
    except (OSError, TypeError, ValueError):
        return []


def add(folder: pathlib.Path, new: dict[str, Any]) -> None:
    """Puts an evaluation before those in the folder.

    One that asked the same is replaced. Those of another classifier or dataset are dropped: a
    folder is about one classifier.
    """
    kept = [
        old
        for old in read(folder)
        if old.get("dataset") == new["dataset"]
        and old.get("model", new["model"]) == new["model"]
        and _asked(old) != _asked(new)
    ]
    write_json(folder / "evaluation.json", new | {"earlier": kept})


def find(
    folder: pathlib.Path,
    attacks: Sequence[Attack],
    examples: int,
    classes: int,
    verdict_epsilon: float | None = None,
) -> dict[str, Any] | None:
    """The evaluation in a folder that asked for just these attacks on so many images and classes.

    With `verdict_epsilon` one that judged masking at that radius, too. None where there is none.
    """
    rows = [attack.row(classes) for attack in attacks]
    for found in read(folder):
        judged = (found.get("verdict") or {}).get("epsilon")
        if _asked(found)[:2] == (examples, rows) and verdict_epsilon in (None, judged):
            return found
    return None


def _asked(found: dict[str, Any]) -> tuple:
    rows = [
        {key: value for key, value in row.items() if key not in _OUTCOME}
        for row in found["attacks"]
        if row["name"] not in ("clean", "worst_case")
    ]
    return found["examples"], rows, (found.get("verdict") or {}).get("epsilon")
