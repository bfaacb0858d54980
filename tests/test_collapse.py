"""Classifiers that give every image one class."""

import numpy as np
import pytest
import toys

from jarn_tf import Defense, callbacks


@pytest.mark.parametrize("to", [0, 2])
def test_a_constant_classifier_is_warned_of(to, capsys):
    kernel = np.zeros((np.prod(toys.IMAGE_SHAPE), toys.CLASSES), np.float32)
    model = toys.linear_classifier(kernel, np.eye(toys.CLASSES, dtype=np.float32)[to])
    images, _ = toys.batch(9)
    callback = callbacks.CollapseWarning(images)
    callback.set_model(Defense(model))
    callback.on_epoch_end(4, {})
    (line,) = capsys.readouterr().out.splitlines()
    for part in ("Warning", "epoch 5", "all 9", f"class {to}", "epsilon_warmup_fraction"):
        assert part in line


def test_a_classifier_that_tells_images_apart_is_not_warned_of(capsys):
    images, _ = toys.batch(9)
    model = toys.classifier()
    assert len(set(model(images).numpy().argmax(axis=1))) > 1
    callback = callbacks.CollapseWarning(images)
    callback.set_model(Defense(model))
    callback.on_epoch_end(0, {})
    assert capsys.readouterr().out == ""
