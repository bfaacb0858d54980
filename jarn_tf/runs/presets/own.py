"""`--dataset=folder:DIR`, `npz:FILE`, `tfds:NAME`: the values of CIFAR-10, measured on no other."""

from __future__ import annotations

import dataclasses

from jarn_tf.runs.presets import cifar10

PAPER, AUTHORS, RECOMMENDED = (
    dataclasses.replace(preset, claims={})
    for preset in (cifar10.PAPER, cifar10.AUTHORS, cifar10.RECOMMENDED)
)
