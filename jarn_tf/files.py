"""Files: written so that a crash leaves the old one or the new one, read within bounds."""

from __future__ import annotations

import hashlib
import json
import os
import pathlib
import zipfile
from collections.abc import Callable
from typing import Any

#: The largest of the project's own are below 1 MiB; parsed, JSON takes up to 25 times its size.
_MOST_JSON = 2**24


def write_atomically(path: str | os.PathLike, write: Callable[[pathlib.Path], object]) -> None:
    """Lets `write` fill a temporary file beside `path`, of the same suffix, then renames it.

    Raises:
        OSError: It cannot be written, as when the disk is full. What was there is left.
    """
    path = pathlib.Path(path)
    temporary = path.with_name(f".{path.stem}.partial{path.suffix}")
    temporary.unlink(missing_ok=True)  # a link there would be followed
    try:
        write(temporary)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        raise OSError(f"{path} cannot be written: {error.strerror or error}") from None
    os.replace(temporary, path)


def write_json(path: str | os.PathLike, content: dict[str, Any]) -> None:
    """Writes indented JSON atomically, with the SHA-256 of the rest under `sha256`."""
    text = json.dumps(content | {"sha256": _digest(content)}, indent=2) + "\n"
    write_atomically(path, lambda temporary: temporary.write_text(text))


def _digest(content: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def read_json(path: str | os.PathLike) -> dict[str, Any]:
    """What `write_json` wrote, at most 16 MiB.

    Raises:
        OSError: It cannot be read.
        ValueError: It is no file (a pipe would never end), too large, no JSON of names and values,
            or not what was written. A file without a SHA-256 is taken as it is.
    """
    path = pathlib.Path(path)
    if path.exists() and not path.is_file():
        raise ValueError(f"{path} is no file")
    if path.stat().st_size > _MOST_JSON:
        raise ValueError(f"{path} has more than {_MOST_JSON >> 20} MiB")
    try:
        content = json.loads(path.read_text())
    except RecursionError:
        raise ValueError(f"{path} is nested too deeply") from None
    if not isinstance(content, dict):
        raise ValueError(f"{path} has no names")
    written = content.pop("sha256", None)
    if written is not None and written != _digest(content):
        raise ValueError(
            f"{path} is not as it was written: put back what was, or, if the change is meant, "
            "delete sha256 in it"
        )
    return content


def unpacked_size(path: str | os.PathLike) -> int:
    """Bytes that a zip archive says its members have; reading them ends there.

    Raises:
        zipfile.BadZipFile: It is none.
    """
    with zipfile.ZipFile(path) as archive:
        return sum(member.file_size for member in archive.infolist())


def is_whole_archive(path: str | os.PathLike) -> bool:
    """Whether a zip archive, such as a `.keras` file, is as its checksums say."""
    try:
        with zipfile.ZipFile(path) as archive:
            return archive.testzip() is None
    except Exception:  # zipfile and zlib raise many kinds for damage
        return False
