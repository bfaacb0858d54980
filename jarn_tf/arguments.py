"""Plain arguments: the words that options take, and checks of values. Standard library only."""

from __future__ import annotations

import numbers
import re

DATASETS = ("digits", "mnist", "svhn", "cifar10")
#: Kinds of datasets of one's own, KIND:SOURCE.
OWN_DATASETS = {"folder": "DIR", "npz": "FILE", "tfds": "NAME"}
#: Those whose images may be of several sizes, and are then brought to one.
SIZED = ("folder", "tfds")
ACTIVATIONS = ("relu", "leaky_relu", "gelu", "softplus")
NORMALIZATIONS = ("dataset", "image")
JACOBIANS = ("loss", "softmax", "logit", "margin")
GAN_LOSSES = ("minimax", "non_saturating")
REAL_IMAGES = ("perturbed", "clean", "centred", "blurred", "grey")
ATTACK_LOSSES = ("cross_entropy", "margin")
#: Attacks with the settings of AutoAttack.
PARAMETER_FREE = ("apgd_ce", "apgd_t", "fab_t", "square", "apgd_dlr", "apgd_margin")
APGD_LOSSES = ("cross_entropy", "dlr", "margin")
NORMS = ("linf", "l2")
VERSIONS = ("standard", "plus", "rand")
ATTACK_NAMES = (
    "fgsm, pgdK or pgdK_margin with K steps (pgd5, pgd40, pgd40_margin), "
    f"{', '.join(PARAMETER_FREE)}, autoattack"
)

#: Largest whole number of int32, as which TensorFlow takes them.
MOST = 2**31 - 1
_LARGEST = 3.4e38  # of float32
_LARGEST_L2 = 10_000  # no two images of less than 100 million values are further apart


def _is_number(value: object) -> bool:
    """Whether it is a number of Python's or NumPy's; TensorFlow takes no `Fraction`."""
    quotient = isinstance(value, numbers.Rational) and not isinstance(value, numbers.Integral)
    return isinstance(value, numbers.Real) and not quotient and not isinstance(value, bool)


def one_of(name: str, value: object, choices: tuple[str, ...]) -> None:
    """Raises ValueError unless `value` is one of `choices`."""
    if not isinstance(value, str) or value not in choices:
        raise ValueError(f"{name} must be one of {', '.join(choices)}. Received: {value!r}.")


def dataset(name: str, value: object) -> None:
    """Raises ValueError unless `value` is one of `DATASETS`, or such as `folder:DIR`."""
    kind, _, source = str(value).partition(":")
    if value not in DATASETS and not (kind in OWN_DATASETS and source):
        own = (f"{kind}:{source}" for kind, source in OWN_DATASETS.items())
        raise ValueError(
            f"{name} must be one of {', '.join((*DATASETS, *own))}. Received: {value!r}."
        )


def image_size(value: int | None, dataset: str) -> None:
    """Raises ValueError if a height and width are given for images that have their own."""
    if value is not None and dataset.partition(":")[0] not in SIZED:
        names = " and ".join(f"{kind}:{OWN_DATASETS[kind]}" for kind in SIZED)
        raise ValueError(f"image_size is for datasets {names}. Received: dataset={dataset}.")


def attack(value: object) -> None:
    """Raises ValueError unless `value` names an attack, see `evaluation.Attack`."""
    known = ("clean", "fgsm", "autoattack", *PARAMETER_FREE)
    if value not in known and not re.fullmatch(r"pgd[1-9]\d*(_margin)?", str(value)):
        raise ValueError(f"Unknown attack {value!r}. Known: {ATTACK_NAMES}.")


def whole(name: str, value: int, least: int = 1, most: int = MOST) -> int:
    """`value` as Python's, as NumPy's overflow; ValueError unless whole, from `least` to `most`."""
    if not isinstance(value, numbers.Integral) or isinstance(value, bool) or value < least:
        raise ValueError(f"{name} must be a whole number of at least {least}. Received: {value!r}.")
    if value > most:
        raise ValueError(f"{name} must be at most {most}. Received: {value}.")
    return int(value)


def truth(name: str, value: bool) -> None:
    """Raises ValueError unless `value` is True or False."""
    if not isinstance(value, bool):
        raise ValueError(f"{name} must be True or False. Received: {value!r}.")


def seed(value: int) -> int:
    """As `whole`, of a number that can be a seed."""
    return whole("seed", value, 0, 2**62)  # int64 has room for it and an image's index


def not_negative(name: str, value: float) -> None:
    """Raises ValueError unless `value` is a finite number of at least 0."""
    if not (_is_number(value) and 0 <= value <= _LARGEST):
        raise ValueError(f"{name} must be a finite number of at least 0. Received: {value!r}.")


def positive(name: str, value: float) -> None:
    """Raises ValueError unless `value` is a finite number above 0."""
    if not (_is_number(value) and 0 < value <= _LARGEST):
        raise ValueError(f"{name} must be a finite number above 0. Received: {value!r}.")


def fraction(name: str, value: float, hint: str = "") -> None:
    """Raises ValueError unless `value` is a number in [0, 1]."""
    if not (_is_number(value) and 0 <= value <= 1):  # NaN too
        raise ValueError(f"{name} must be a number in [0, 1]. Received: {value!r}.{hint}")


def radius(value: float, name: str = "epsilon", norm: str = "linf") -> None:
    """Raises ValueError unless `value` is a radius in the norm: in L-infinity in [0, 1]."""
    one_of("norm", norm, NORMS)
    if norm == "l2":
        if not (_is_number(value) and 0 <= value <= _LARGEST_L2):
            raise ValueError(
                f"{name} must be a number in [0, {_LARGEST_L2}] in norm l2. Received: {value!r}."
            )
        return
    in_255ths = _is_number(value) and 1 < value <= 255
    hint = f" Pixels are in [0, 1]: did you mean {value:g}/255?" if in_255ths else ""
    fraction(name, value, hint)
