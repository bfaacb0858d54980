"""Which classifier a callback looks at."""

from __future__ import annotations

import keras


def watched_classifier(model: keras.Model) -> keras.Model:
    """The classifier of a `Defense`; a plain Keras classifier in training is its own."""
    return getattr(model, "classifier", model)
