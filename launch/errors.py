"""Errors of the user's making as one line on standard error and exit status 1."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator


@contextlib.contextmanager
def one_line() -> Iterator[None]:
    """Turns the errors that `jarn_tf` raises for bad input into one line; others stay as they are."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")  # before TensorFlow is imported
    try:
        yield
    except (ValueError, OSError) as error:
        sys.exit(f"Error: {' '.join(str(error).split())}")
