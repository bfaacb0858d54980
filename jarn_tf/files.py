"""Writing files so that a crash leaves the old one or the new one, never half of one."""

from __future__ import annotations

import json
import os
import pathlib
from collections.abc import Callable
from typing import Any


def write_atomically(path: str | os.PathLike, write: Callable[[pathlib.Path], object]) -> None:
    """Lets `write` fill a temporary file beside `path`, of the same suffix, then renames it."""
    path = pathlib.Path(path)
    temporary = path.with_name(f".{path.stem}.partial{path.suffix}")
    write(temporary)
    os.replace(temporary, path)


def write_json(path: str | os.PathLike, content: Any) -> None:
    """Writes indented JSON atomically."""
    text = json.dumps(content, indent=2) + "\n"
    write_atomically(path, lambda temporary: temporary.write_text(text))
