"""The command that measures of a classifier what its evaluations left out."""

from __future__ import annotations

import shlex
from typing import Any

_START = ["python", "-m", "launch.evaluate"]


def for_all(of: list[str]) -> str:
    """One that measures everything of what the flags `of` name."""
    return shlex.join([*_START, *of, "--attacks=pgd40,autoattack", "--verdict"])


def is_noted(command: Any) -> bool:
    """Whether it is a command line as `launch.evaluate` notes it."""
    try:
        words = shlex.split(command) if isinstance(command, str) else []
    except ValueError:  # a quotation without an end
        return False
    return words[:3] == _START and "".join(words[3:]).startswith("-")


def completed(noted: str, autoattack: bool, verdict: bool) -> str:
    """A noted command with what is wanted.

    What it says of the model stays: without, the results would be another classifier's. As a
    verdict is judged in L-infinity, a radius in L2 goes where one is wanted.
    """
    flags: dict[str, str] = {}
    for word in shlex.split(noted)[3:]:
        if word.startswith("-"):
            name = word.lstrip("-").partition("=")[0]
            flags[name] = word
        else:  # the value of the flag before, as the command takes no arguments
            flags[name] += f"={word}"
    if autoattack:
        flags["attacks"] = flags.get("attacks", "--attacks=fgsm,pgd40") + ",autoattack"
    for name in ("verdict", "noverdict"):
        flags.pop(name, None)
    if verdict and flags.get("norm", "").endswith("l2"):
        del flags["norm"]
        flags.pop("epsilon", None)
    return shlex.join([*_START, *flags.values(), *(["--verdict"] if verdict else [])])
