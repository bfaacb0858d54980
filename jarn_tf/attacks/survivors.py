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
            the number of steps, to their new state. An image has to do as well alone as in company,
            and what is returned of one that has fallen must stay.
        state: NamedTuple of arrays with one row an image, or of such tuples, `fallen` [n] among
            them; changed in place.
        steps: Steps in all.
    """
    arrays = tf.nest.flatten(state)
    done, now = 0, min(2, steps)  # short pieces at first, when most images fall
    rows = _survivors(state.fallen)
    while len(rows) and done < steps:
        part = tf.nest.pack_sequence_as(state, [tf.constant(array[rows]) for array in arrays])
        left = rows
        # Copies to and from arrays cost as much as a step. They wait until fewer rows are left.
        while len(left) == len(rows) and done < steps:
            part = advance(part, tf.constant(done), tf.constant(now))
            state.fallen[rows] = part.fallen.numpy()
            done += now
            now = min(max(2, done), _LONGEST, steps - done)
            left = _survivors(state.fallen)
        for array, values in zip(arrays, tf.nest.flatten(part)):
            array[rows] = values.numpy()
        rows = left


def _survivors(fallen: np.ndarray) -> np.ndarray:
    """Rows up to a multiple of 32, some of them twice: oneDNN keeps memory for each size."""
    rows = np.flatnonzero(~fallen)
    return np.resize(rows, min(math.ceil(len(rows) / 32) * 32, len(fallen)))
