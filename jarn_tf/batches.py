"""How many images are cut into pieces."""

from __future__ import annotations

from collections.abc import Iterator

#: Images of a part of a long evaluation: a part has random numbers of its own, and is kept once it
#: is done. What is computed at once may be less, and then gives the same numbers.
PART = 500


def slices(number: int, size: int = PART) -> Iterator[slice]:
    """The slices of at most `size` rows that make up so many."""
    for start in range(0, number, size):
        yield slice(start, min(start + size, number))
