"""Discriminators that have won JARN's game."""

import numpy as np
import pytest
import toys

from jarn_tf import JARN, callbacks, networks


def pixel_sum(scale, bias):
    """A discriminator: scale * the sum of the pixels + bias."""
    kernel = np.full((np.prod(toys.IMAGE_SHAPE), 1), scale, np.float32)
    return toys.linear_classifier(kernel, bias)


def game(discriminator, **options):
    """J is 0 everywhere, and J' = tanh(J) with it."""
    kernel = np.zeros((np.prod(toys.IMAGE_SHAPE), toys.CLASSES), np.float32)
    classifier, adaptor = toys.linear_classifier(kernel), networks.adaptor(toys.IMAGE_SHAPE)
    return JARN(classifier, adaptor, discriminator, discriminator_interval=1, **options)


@pytest.mark.parametrize(("gan_loss", "epoch"), [("minimax", 1), ("non_saturating", 3)])
def test_a_discriminator_that_has_won_is_warned_of_once(capsys, gan_loss, epoch):
    """It takes what is not black for real, and every J' is black."""
    model = game(pixel_sum(1.0, -1.0), gan_loss=gan_loss)
    toys.fit_at_rest(model, callbacks.DiscriminatorWonWarning())
    (said,) = capsys.readouterr().out.splitlines()
    for part in ("Warning", f"epoch {epoch} ", "100.0%", "discriminator_interval"):
        assert part in said
    assert ("gan_loss=non_saturating" in said) == (gan_loss == "minimax")


@pytest.mark.parametrize(
    ("scale", "bias", "start_step"),
    [
        (1.0, 1.0, 0),  # takes everything for real
        (-1.0, -1.0, 0),  # nothing
        (-1.0, 1.0, 0),  # and each for the other
        (1.0, -1.0, 2),  # an epoch of 2 steps: the phase has not begun
    ],
)
def test_a_discriminator_that_has_not_won(capsys, scale, bias, start_step):
    model = game(pixel_sum(scale, bias), start_step=start_step)
    toys.fit_at_rest(model, callbacks.DiscriminatorWonWarning(), epochs=1)
    assert capsys.readouterr().out == ""


def test_a_discriminator_that_is_wrong_of_one_image_in_eight(capsys):
    images, _ = toys.batch(8)
    images[0] = 0
    watching = callbacks.DiscriminatorWonWarning()
    toys.fit_at_rest(game(pixel_sum(1.0, -1.0)), watching, epochs=1, images=images)
    assert capsys.readouterr().out == ""
