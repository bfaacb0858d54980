"""`evaluation.json`: every evaluation of one classifier.

The newest stands at the top level: `dataset`, `examples`, `attacks` (the rows of
`evaluation.robustness`), `saliency`, `collapsed_to_class`, `versions`, `model` and `data` (digests
of the classifier and of the test images), `command` (the command line, where there was one) and, if
it was judged, `verdict`. The others stand in the same form in the list `earlier`, newest first.
"""

from __future__ import annotations

import itertools
import pathlib
import sys
from collections.abc import Sequence
from typing import Any

from jarn_tf.evaluation import Attack, report_markdown, report_text
from jarn_tf.files import read_json, write_json

#: Keys of a row that say what came out; the others say what was asked.
_OUTCOME = ("accuracy", "interval", "examples", "seconds")


def read(folder: pathlib.Path, name: str = "evaluation.json") -> list[dict[str, Any]]:
    """The evaluations in a file of a folder that can be read, newest first."""
    return [found for found in _entries(folder / name) if _is_whole(found)]


def _entries(path: pathlib.Path) -> list[Any]:
    """What the file holds, damaged or not; None in place of what is no JSON of its form."""
    if not path.exists():
        return []
    try:
        newest = dict(read_json(path))
        return [newest, *(newest.pop("earlier", None) or [])]
    except (OSError, TypeError, ValueError):
        return [None]


def _is_whole(found: Any) -> bool:
    """Whether all that is ever said of it can be said."""
    try:
        return all(show(found) for show in (report_text, report_markdown))
    except Exception:  # any kind, as anything may be missing or of another type
        return False


def add(folder: pathlib.Path, new: dict[str, Any]) -> None:
    """Puts an evaluation before those in the folder.

    One that asked the same is replaced. A folder is about one classifier: a file with evaluations
    of another classifier or dataset, or with damage, is renamed, and standard error says so. As
    many test images with another digest are another dataset.
    """
    path = folder / "evaluation.json"
    there = _entries(path)
    whole = [old for old in there if _is_whole(old)]
    same = [old for old in whole if _belongs(old, new)]
    if len(same) < len(there):
        aside = next(
            p for i in itertools.count(1) if not (p := path.with_suffix(f".{i}.json")).exists()
        )
        path.rename(aside)
        damaged = len(whole) < len(there)
        what = "damage" if damaged else "evaluations of another classifier or dataset"
        print(f"{path} held {what}; it is {aside.name} now.", file=sys.stderr)
    kept = [old for old in same if _asked(old) != _asked(new)]
    write_json(path, new | {"earlier": kept})


def _belongs(old: dict[str, Any], new: dict[str, Any]) -> bool:
    """Whether two evaluations are of one classifier and one dataset, as far as they say."""
    bound = {"dataset", "model"} | ({"data"} if old["examples"] == new["examples"] else set())
    return all(old[name] == new[name] for name in bound & set(old) & set(new))


def find(
    folder: pathlib.Path,
    attacks: Sequence[Attack],
    examples: int,
    classes: int,
    verdict_epsilon: float | None = None,
    model: str | None = None,
) -> dict[str, Any] | None:
    """The evaluation in a folder that asked for just these attacks on so many images and classes.

    With `verdict_epsilon` one that judged masking at that radius, too; with `model`, a digest, one
    of that classifier. None where there is none.
    """
    rows = [attack.row(classes) for attack in attacks]
    for found in read(folder):
        if model is not None and found.get("model", model) != model:
            continue
        judged = (found.get("verdict") or {}).get("epsilon")
        if _asked(found)[:2] == (examples, rows) and verdict_epsilon in (None, judged):
            return found
    return None


def _asked(found: dict[str, Any]) -> tuple:
    """What an evaluation asked; one from before there were norms asked in L-infinity."""
    rows = [
        {"norm": "linf"} | {key: value for key, value in row.items() if key not in _OUTCOME}
        for row in found["attacks"]
        if row["name"] not in ("clean", "worst_case")
    ]
    return found["examples"], rows, (found.get("verdict") or {}).get("epsilon")
