"""What a preset is made of: values with their sources, and what they were measured to reach."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from jarn_tf.runs.config import defense_of

#: Name of a setting to its value and the source of that value.
Values = Mapping[str, tuple[Any, str]]


@dataclasses.dataclass(frozen=True)
class Claim:
    """What the training of one defense costs and reaches.

    Attributes:
        command: What printed it.
        cost: Time of the training, alone unless it says more.
        result: Accuracies in %.
    """

    command: str
    cost: str
    result: str


@dataclasses.dataclass(frozen=True)
class Preset:
    """What every defense trains with on one dataset.

    The values of a defense are those of `base`, then what its perturbation changes in them, then
    its regulariser, then the defense itself.

    Attributes:
        base: A value for every setting that has none of its own.
        perturbations: Name of a perturbation to what it changes.
        regularizers: Name of a regulariser to what it changes.
        defenses: Name of a defense to what it changes.
        claims: Name of a defense to what it was measured to reach; the others were not measured.
    """

    base: Values
    perturbations: Mapping[str, Values]
    regularizers: Mapping[str, Values]
    defenses: Mapping[str, Values] = dataclasses.field(default_factory=dict)
    claims: Mapping[str, Claim] = dataclasses.field(default_factory=dict)

    def values(self, perturbation: str, regularizer: str) -> Values:
        """The values of a pair, whether it is a named defense or not."""
        layers = [
            self.base,
            self.perturbations.get(perturbation, {}),
            self.regularizers.get(regularizer, {}),
            self.defenses.get(defense_of(perturbation, regularizer), {}),
        ]
        return {name: value for layer in layers for name, value in layer.items()}
