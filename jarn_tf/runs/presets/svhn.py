"""`--dataset=svhn`: Section 4.2 of the paper. The values of CIFAR-10, but for what is said here.

Nothing was measured: SVHN was not to be had.
"""

from __future__ import annotations

import dataclasses

from jarn_tf.runs.presets import cifar10
from jarn_tf.runs.presets.claims import Values

_PAPER: Values = {
    "epochs": (140, "Madry et al.: 80,000 steps of 128"),
    "epsilon": (8 / 255, "paper, Section 4.2"),
    "network": ("wide_resnet", "paper, Section 4.2"),
    "training_epsilon": (8 / 255, "paper, Section 4.2"),
    "discriminator_interval": (20, "paper, Section 4.2"),
    "discriminator_filters": ((16, 32, 64, 128, 256), "paper, Section 4.2"),
}
_WEIGHT: Values = {"adversarial_weight": (5.0, "paper, Section 4.2")}

PAPER = dataclasses.replace(cifar10.PAPER, base=cifar10.PAPER.base | _PAPER | _WEIGHT)

AUTHORS = dataclasses.replace(cifar10.AUTHORS, base=cifar10.AUTHORS.base | _PAPER | _WEIGHT)

RECOMMENDED = dataclasses.replace(
    cifar10.RECOMMENDED,
    base=cifar10.RECOMMENDED.base
    | {name: _PAPER[name] for name in ("epsilon", "training_epsilon")},
)
