import keras
import numpy as np
import pytest

import jarn_tf
from jarn_tf import attacks, callbacks, networks
from jarn_tf.evaluation import Attack
from jarn_tf.runs.presets import preset


@pytest.mark.parametrize("image_shape", [(28, 28, 1), (32, 32, 3), (96, 80, 3), (9, 7, 1)])
def test_jarn_of_a_classifier_alone_trains(image_shape):
    classifier = keras.Sequential(
        [keras.Input(image_shape), keras.layers.Flatten(), keras.layers.Dense(3)]
    )
    model = jarn_tf.JARN(classifier)
    model.compile("adam")
    before = [w.numpy() for w in model.discriminator.trainable_variables]
    images = np.random.default_rng(0).uniform(size=(4, *image_shape)).astype(np.float32)
    model.fit(images, np.array([0, 1, 2, 0]), verbose=0)
    after = model.discriminator.trainable_variables
    assert any((a.numpy() != b).any() for a, b in zip(after, before))


def test_the_default_discriminator_of_28x28_is_that_of_section_4_1():
    channels = [
        layer.filters
        for layer in networks.discriminator((28, 28, 1)).layers
        if isinstance(layer, keras.layers.Conv2D)
    ]
    assert channels == [64, 128]


@pytest.mark.parametrize("size", [28, 32, 64, 224])
def test_the_default_discriminator_of_larger_images_judges_as_few_places(size):
    flat = next(
        layer
        for layer in networks.discriminator((size, size, 3)).layers
        if isinstance(layer, keras.layers.Flatten)
    )
    height, width, _ = flat.input.shape[1:]
    assert 4 <= height <= 8 and height == width


def test_recommended_has_the_options_of_the_preset():
    classifier = keras.Sequential(
        [keras.Input((28, 28, 1)), keras.layers.Flatten(), keras.layers.Dense(10)]
    )
    model = jarn_tf.JARN.recommended(classifier, start_step=7)
    config = preset("mnist", "jarn")
    for name in ("adversarial_weight", "jacobian_of", "gan_loss", "real_images"):
        assert getattr(model, name) == getattr(config, name), name
    assert model.discriminator_interval == config.discriminator_interval
    assert bool(model.adaptor.trainable_variables) == config.adaptor_trainable
    assert model.start_step == 7
    assert jarn_tf.JARN.recommended(classifier, gan_loss="minimax").gan_loss == "minimax"


def test_a_healthy_run_is_not_warned_of(digits, digits_classifier, capsys):
    """The recommended options of JARN in a plain Keras workflow, made short."""
    train, held_out = digits.train.first(256), digits.validation.first(64)
    model = jarn_tf.JARN(
        keras.models.clone_model(digits_classifier),
        networks.adaptor((28, 28, 1), trainable=False),
        networks.discriminator((28, 28, 1), filters=(4, 8)),
        adversarial_weight=0.1,
        discriminator_interval=2,
        start_step=4,
        perturb=attacks.UniformNoise(0.3, fraction=0.5),
        jacobian_of="logit",
        gan_loss="non_saturating",
        real_images="clean",
    )
    model.compile(keras.optimizers.Adam(0.01), "adam", keras.optimizers.Adam(5e-4))
    robust = callbacks.RobustAccuracy(held_out.floats, held_out.labels, Attack("pgd5", 0.1))
    history = model.fit(
        train.floats, train.labels, batch_size=64, epochs=4, verbose=0,
        callbacks=[
            robust,
            callbacks.CollapseWarning(held_out.floats),
            callbacks.CatastrophicOverfittingWarning(robust),
            callbacks.DiscriminatorWonWarning(),
            callbacks.ConstantAdaptorWarning(held_out.floats, held_out.labels),
        ],
    ).history  # fmt: skip
    assert history["accuracy"][-1] > 0.5  # it learned
    assert np.isfinite(history["discriminator_real_accuracy"][1:]).all()  # the game was played
    assert capsys.readouterr().out == ""
