"""Adaptors that draw one picture."""

import keras
import numpy as np
import pytest
import toys

from jarn_tf import JARN, callbacks


def drawing(picture=0.0, times=1.0):
    """An adaptor that draws tanh(times * J + picture), `picture` of the shape of the images."""
    inputs = keras.Input(toys.IMAGE_SHAPE)
    picture = np.broadcast_to(np.float32(picture), toys.IMAGE_SHAPE)
    return keras.Model(inputs, keras.ops.tanh(inputs * times + picture))


PICTURE = np.random.default_rng(5).uniform(-1, 1, toys.IMAGE_SHAPE)


def adaptor_lines(capsys, picture=0.0, times=1.0, sure=False, start_step=5, **options):
    """What is said after two epochs, 6 steps having been made.

    The labels are the classifier's own; where it is `sure`, its cross-entropy is flat.
    """
    classifier = toys.classifier()
    if sure:
        *others, kernel, bias = classifier.get_weights()
        classifier.set_weights([*others, 1e3 * kernel, 1e3 * bias])
    images, _ = toys.batch(30)
    labels = classifier(images).numpy().argmax(axis=1)
    options |= {"start_step": start_step}
    model = JARN(classifier, drawing(picture, times), toys.discriminator(), **options)
    model.compile("sgd", "sgd", "sgd")
    model.optimizer.iterations.assign(6)
    callback = callbacks.ConstantAdaptorWarning(images, labels, batch_size=20)
    callback.set_model(model)
    callback.on_train_begin()
    for epoch in range(2):
        callback.on_epoch_end(epoch, {})
    return capsys.readouterr().out.splitlines()


@pytest.mark.parametrize(
    ("part", "options"),
    [
        ("flat", {"picture": 20.0}),  # saturated at 1
        ("flat", {"picture": 20.0, "standardize": True}),
        ("flat", {"picture": -20.0}),
        ("flat", {"sure": True}),
        ("one image", {"picture": PICTURE, "times": 0.0}),
        ("one image", {"picture": PICTURE, "times": 0.01}),
        ("one image", {"picture": PICTURE, "times": 0.0, "standardize": True}),
    ],
)
def test_a_constant_adaptor_is_warned_of_once(capsys, part, options):
    (said,) = adaptor_lines(capsys, **options)
    for expected in ("Warning", "epoch 1 ", "30", part, "adaptor_trainable"):
        assert expected in said


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"picture": 0.5 * PICTURE, "times": 20.0},
        {"picture": 1.0},  # bright, but with contrast
        {"times": 1e-4, "standardize": True},  # the discriminator sees it scaled
        {"sure": True, "jacobian_of": "logit"},
        {"picture": 20.0, "start_step": 6},  # the phase begins with the next step
    ],
)
def test_an_adaptor_that_draws_different_images(capsys, options):
    assert adaptor_lines(capsys, **options) == []
