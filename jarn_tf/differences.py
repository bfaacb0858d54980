"""What differs between two sets of named values, for people."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def in_words(
    there: Mapping[str, Any], now: Mapping[str, Any], form: str = "there {}, now {}"
) -> str:
    """Each name whose values differ, with both in brackets; empty if none does.

    A name that one of them lacks has the value None there. `form` says what stands in brackets.
    """
    return ", ".join(
        f"{name} ({form.format(_short(there.get(name)), _short(now.get(name)))})"
        for name in {**now, **there}
        if there.get(name) != now.get(name)
    )


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 100 else f"{text[:50]}...{text[-47:]}"
