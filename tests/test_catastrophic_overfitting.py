"""Adversarial training of a single step that overfits to it."""

import keras
import numpy as np
import pytest
import toys

from jarn_tf import Defense, callbacks
from jarn_tf.evaluation import Attack


@pytest.fixture(scope="module")
def bent():
    """A model of three classes, and a function that bends it.

    With d the distance of an image's first pixel from `bend`, class 0 leads the others by
    below * d - offset where the pixel is below `bend`, and by above * d - offset where it is above.
    """
    inputs = keras.Input(toys.IMAGE_SHAPE)
    hidden = keras.layers.Dense(2, activation="relu")(keras.layers.Flatten()(inputs))
    model = Defense(keras.Model(inputs, keras.layers.Dense(toys.CLASSES)(hidden)))

    def to(bend, below, above, offset):
        first = np.zeros((np.prod(toys.IMAGE_SHAPE), 2), np.float32)
        first[0] = [-1, 1]
        second = np.zeros((2, toys.CLASSES), np.float32)
        second[:, 0] = [below, above]
        bias = np.float32([-offset, 0, 0])
        model.classifier.set_weights([first, np.float32([bend, -bend]), second, bias])
        return model

    return to


def dip(at):
    """Wrong within 0.05 of `at` alone: a long step up the gradient ends where it is right again."""
    return {"bend": at, "below": 10.0, "above": 10.0, "offset": 0.5}


def line(at):
    """Right below `at`, wrong above it: the loss is as monotone as that of a linear model."""
    return {"bend": at, "below": 10.0, "above": -10.0, "offset": 0.0}


def overfitting_lines(capsys, model, first_pixels, every=1, epochs=1):
    """PGD-10 at 0.3."""
    images = np.full((len(first_pixels), *toys.IMAGE_SHAPE), 0.5, np.float32)
    images[:, 0, 0, 0] = first_pixels
    labels = np.zeros(len(images), np.int32)
    robust = callbacks.RobustAccuracy(images, labels, Attack("pgd10", 0.3), every)
    toys.fit_at_rest(model, robust, callbacks.CatastrophicOverfittingWarning(robust), epochs=epochs)
    return capsys.readouterr().out.splitlines()


@pytest.mark.parametrize(("every", "epoch"), [(1, 1), (2, 2)])
def test_catastrophic_overfitting_is_said_once(bent, capsys, every, epoch):
    """0.5 +- 0.3 holds the dip, and FGSM jumps over it; 0.05 +- 0.3 does not."""
    (said,) = overfitting_lines(capsys, bent(**dip(0.6)), [0.5] * 6 + [0.05] * 4, every, 4)
    for part in ("Warning", f"epoch {epoch} ", "FGSM leaves 100.0%", "pgd10 40.0%", "attack_steps"):
        assert part in said


@pytest.mark.parametrize(
    ("shape", "first_pixels"),
    [
        (dip(0.6), [0.5] * 5 + [0.05] * 5),  # FGSM 1, PGD 0.5: not less than half
        (dip(0.78), [0.5] * 9),  # FGSM 0: it stops in the dip
        (dip(0.78), [0.5] * 2 + [0.6] * 8),  # FGSM 0.8, PGD 0
        (line(0.7), [0.5] * 9),  # as a standard classifier: FGSM 0, PGD 0
        (line(0.7), [0.1] * 9 + [0.5]),  # as adversarial training: FGSM 0.9, PGD 0.9
        (line(0.7), [0.1] + [0.5] * 9),  # as early in it: FGSM 0.1, PGD 0.1
        (line(0.0), [0.5] * 9),  # all wrong
    ],
)
def test_no_catastrophic_overfitting(bent, capsys, shape, first_pixels):
    assert overfitting_lines(capsys, bent(**shape), first_pixels) == []


@pytest.mark.parametrize("attack", ["clean", "fgsm", "pgd1"])
def test_overfitting_to_a_step_shows_under_several_steps_only(attack):
    robust = callbacks.RobustAccuracy(*toys.batch(2), Attack(attack, 0.1))
    with pytest.raises(ValueError, match=f"several steps.*{attack}"):
        callbacks.CatastrophicOverfittingWarning(robust)
