"""How a setting is declared: the values it takes, their check, their form as text, its help.

Standard library only.
"""

from __future__ import annotations

import dataclasses
import fractions
from collections.abc import Callable, Mapping
from typing import Any

from jarn_tf import arguments


@dataclasses.dataclass(frozen=True)
class Optimizer:
    """An optimizer: its Keras name and its rate.

    Attributes:
        name: `"adam"` or `"sgd"`.
        learning_rate: Rate at the first step.
        momentum: Momentum of SGD.
    """

    name: str
    learning_rate: float
    momentum: float = 0.0

    def __post_init__(self):
        arguments.one_of("optimizer", self.name, ("adam", "sgd"))
        arguments.positive("learning_rate", self.learning_rate)
        arguments.fraction("momentum", self.momentum)
        if self.momentum and self.name != "sgd":
            raise ValueError(f"momentum is for sgd alone. Received: {self}.")

    def __str__(self):
        momentum = f":{self.momentum:g}" if self.momentum else ""
        return f"{self.name}:{self.learning_rate:g}{momentum}"


@dataclasses.dataclass(frozen=True)
class Kind:
    """The values that a setting takes.

    Attributes:
        takes: They in words.
        parse: Text to a value; raises ValueError if it cannot be read.
        check: Raises ValueError unless the setting (its name comes first) may have the value.
        choices: All of them, where they are words.
    """

    takes: str
    parse: Callable[[str], Any]
    check: Callable[[str, Any], None]
    choices: tuple[str, ...] = ()


@dataclasses.dataclass(frozen=True)
class Setting:
    """One declaration: what flags, checks, `config.json`, HParams and the docs follow from.

    Attributes:
        kind: Its values.
        help: What it is.
        only: Names of other settings to their values, none for any that is set; it has an effect
            with any of these alone, or with every one if no setting is named.
        optional: Whether it may be None, for what `help` says.
    """

    kind: Kind
    help: str
    only: Mapping[str, tuple[str, ...]]
    optional: bool

    @property
    def needs(self) -> str:
        """In words what `only` asks for; empty where it asks for nothing."""
        return " or ".join(
            f"{other} {' or '.join(values)}".rstrip() for other, values in self.only.items()
        )

    def check(self, name: str, value: Any) -> None:
        """Raises ValueError unless the setting of this name may have the value."""
        if not (value is None and self.optional):
            self.kind.check(name, value)


def setting(
    kind: Kind,
    help: str,
    default: Any = dataclasses.MISSING,
    only: Mapping[str, tuple[str, ...]] | None = None,
    optional: bool = False,
) -> Any:
    """A field of `Config`; without a default every preset has to give its value."""
    declared = Setting(kind, help, only or {}, optional or default is None)
    return dataclasses.field(default=default, metadata={"setting": declared})


def choice(*choices: str) -> Kind:
    """One of some words."""
    return Kind(
        "one of " + ", ".join(choices),
        str,
        lambda name, value: arguments.one_of(name, value, choices),
        choices,
    )


def whole(least: int = 1, most: int = arguments.MOST) -> Kind:
    """A whole number."""
    takes = f"whole number of at least {least}"
    takes += f", at most {most}" if most != arguments.MOST else ""
    return Kind(takes, _read_whole, lambda name, value: arguments.whole(name, value, least, most))


def _read_whole(text: str) -> int:
    try:
        return int(text)
    except ValueError:
        raise ValueError(f"{text!r} is not a whole number") from None


def _numbers(text: str, separator: str, read: Callable[[str], Any]) -> tuple:
    return tuple(read(part) for part in text.split(separator)) if text else ()


def _read_number(text: str) -> float:
    """A number, also as a quotient such as 8/255."""
    try:
        return float(text)
    except ValueError:
        pass
    try:
        return float(fractions.Fraction(text))
    except (ValueError, ArithmeticError):
        raise ValueError(f"{text!r} is not a number such as 0.3 or 8/255") from None


def _read_optimizer(text: str) -> Optimizer:
    name, *numbers = text.split(":")
    if len(numbers) not in (1, 2):
        raise ValueError(f"{text!r} is not such as adam:0.001 or sgd:0.1:0.9 (name:rate:momentum)")
    return Optimizer(name, *map(float, numbers))


def _check_decay(name: str, value: tuple) -> None:
    for pair in value:
        arguments.fraction(f"each fraction of {name}", pair[0])
        arguments.positive(f"each factor of {name}", pair[1])
    if list(value) != sorted(value):
        raise ValueError(f"{name} must name its fractions in order. Received: {value!r}.")


def _check_type(name: str, value: Any, type_: type, takes: str) -> None:
    if not isinstance(value, type_):
        raise ValueError(f"{name} must be {takes}. Received: {value!r}.")


def _read_decay(text: str) -> tuple[tuple[float, float], ...]:
    pairs = _numbers(text, ",", lambda pair: tuple(map(float, pair.split(":"))))
    if any(len(pair) != 2 for pair in pairs):
        raise ValueError(f"{text!r} is not such as 0.5:0.1,0.75:0.01 (fraction:factor)")
    return pairs


def _read_truth(text: str) -> bool:
    if text.lower() not in ("true", "false"):
        raise ValueError(f"{text!r} is neither true nor false")
    return text.lower() == "true"


TRUTH = Kind("true or false", _read_truth, arguments.truth)
DATASET = Kind(
    ", ".join(arguments.DATASETS) + "; or folder:DIR, npz:FILE, tfds:NAME",
    lambda text: text.rstrip("/"),
    arguments.dataset,
)
TEXT = Kind("text", str, lambda name, value: _check_type(name, value, str, "text"))
FRACTION = Kind("number in [0, 1]", _read_number, arguments.fraction)
NOT_NEGATIVE = Kind("number of at least 0", _read_number, arguments.not_negative)
POSITIVE = Kind("number above 0, such as 0.01 or 2/255", _read_number, arguments.positive)
RADIUS = Kind(
    "number in [0, 1], such as 0.3 or 8/255",
    _read_number,
    lambda name, value: arguments.radius(value, name),
)
CHANNELS = Kind(
    "whole numbers, such as 64,128",
    lambda text: _numbers(text, ",", int),
    lambda name, value: [arguments.whole(f"each number of {name}", number) for number in value],
)
OPTIMIZER = Kind(
    "name:rate or name:rate:momentum, such as adam:0.001 or sgd:0.1:0.9",
    _read_optimizer,
    lambda name, value: _check_type(name, value, Optimizer, "an Optimizer"),
)
DECAY = Kind("fraction:factor pairs, such as 0.5:0.1,0.75:0.01", _read_decay, _check_decay)
