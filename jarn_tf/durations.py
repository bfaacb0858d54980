"""How long something takes, for people."""

from __future__ import annotations


def in_words(seconds: float) -> str:
    """Seconds below two minutes, hours from two hours on."""
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.0f} h"
