"""Attacks in pieces, so that images that have fallen are attacked no more."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import tensorflow as tf

#: Longest piece of an attack, in steps.
_LONGEST = 64


def attack_survivors(advance: Callable, state: Any, steps: int) -> None:
    """Runs the steps of an attack, dropping images on the way as they fall.

    Args:
        advance: Compiled function of the state of some images, the first step (counted from 0) and
            the number of steps, to their new state. An image has to do as well alone as in company.
        state: NamedTuple of arrays with one row an image, `fallen` [n] among them; changed in
            place.
        steps: Steps in all.
    """
    done, now = 0, min(2, steps)  # short pieces at first, when most images fall
    left = np.flatnonzero(~state.fallen)
    while len(left) and done < steps:
        rows = _padded(left, len(state.fallen))
        part = type(state)(*(tf.constant(array[rows]) for array in state))
        new = advance(part, tf.constant(done), tf.constant(now))
        for array, values in zip(state, new):
            array[rows] = values.numpy()
        done, left = done + now, left[~state.fallen[left]]
        now = min(max(2, done), _LONGEST, steps - done)


def _padded(rows: np.ndarray, total: int) -> np.ndarray:
    """Rows up to a multiple of 32, some of them twice: oneDNN keeps memory for each size."""
    return np.resize(rows, min(math.ceil(len(rows) / 32) * 32, total))
