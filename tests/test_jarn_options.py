"""Networks and options of JARN: what fits, what is refused, what a change of one does."""

import jarns
import keras
import numpy as np
import pytest
import toys

from jarn_tf import JARN, attacks

L2 = keras.regularizers.L2


def test_an_adaptor_without_weights():
    adaptor = keras.Sequential([keras.Input(toys.IMAGE_SHAPE), keras.layers.Activation("tanh")])
    images, labels = toys.batch(8)
    with_term, without = jarns.make(adaptor=adaptor), jarns.make(adversarial_weight=0.0)
    for model in (with_term, without):
        jarns.fit(model, images, labels, epochs=2)
    difference = with_term.classifier.weights[0] - without.classifier.weights[0]
    assert np.abs(difference).max() > 1e-5


def test_a_frozen_adaptor_stays():
    adaptor = toys.adaptor()
    adaptor.trainable = False
    before = toys.arrays(adaptor.weights)
    images, labels = toys.batch(8)
    jarns.fit(jarns.make(adaptor=adaptor), images, labels)
    for a, b in zip(toys.arrays(adaptor.weights), before):
        np.testing.assert_array_equal(a, b)


def test_one_optimizer_object_for_two_networks():
    model = JARN(toys.classifier(), toys.adaptor(), toys.discriminator())
    shared = keras.optimizers.Adam()
    for given in ((shared, shared, "adam"), (shared, "adam", shared), ("sgd", shared, shared)):
        with pytest.raises(ValueError, match="optimizer of its own"):
            model.compile(*given)


@pytest.mark.parametrize(
    ("network", "build", "message"),
    [
        ("adaptor", lambda: toys.classifier(), "adaptor must map"),
        ("adaptor", lambda: keras.Sequential([keras.layers.Conv2D(2, 1)]), "adaptor must be"),
        (
            "adaptor",
            lambda: keras.Sequential([keras.Input((5, 5, 2)), keras.layers.Conv2D(2, 1)]),
            "adaptor must map",
        ),
        ("discriminator", lambda: toys.classifier(), "discriminator must map"),
        ("discriminator", lambda: toys.classifier(image_shape=(8, 8, 2)), "discriminator must map"),
        ("discriminator", lambda: "a layer", "discriminator must be"),
    ],
)
def test_networks_that_do_not_fit(network, build, message):
    fitting = {
        "classifier": toys.classifier(),
        "adaptor": toys.adaptor(),
        "discriminator": toys.discriminator(),
    }
    with pytest.raises(ValueError, match=message) as error:
        JARN(**fitting | {network: build()})
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    "option",
    [
        {"adversarial_weight": -1.0},
        {"adversarial_weight": float("nan")},
        {"discriminator_interval": 0},
        {"jacobian_of": "logits"},
        {"gan_loss": "wasserstein"},
        {"real_images": "noisy"},
        {"start_step": -1},
        {"regularization_interval": 0},
        {"jacobian_penalty": -1.0},
        {"discriminator_penalty": -1.0},
        {"discriminator_noise": -0.1},
    ],
)
def test_options_out_of_range(option):
    (name,) = option
    with pytest.raises(ValueError, match=name):
        JARN(toys.classifier(), toys.adaptor(), toys.discriminator(), **option)


CHANGED = {
    "adversarial_weight": 3.0,
    "discriminator_interval": 2,
    "start_step": 5,
    "jacobian_of": "logit",
    "standardize": True,
    "gan_loss": "non_saturating",
    "real_images": "clean",
    "regularization_interval": 2,
    "jacobian_penalty": 0.5,
    "discriminator_penalty": 2.0,
    "discriminator_noise": 0.5,
    "perturb": attacks.UniformNoise(0.3),
    "seed": 4,
}


def test_every_setting_is_changed_here():
    assert set(CHANGED) == set(JARN.SETTINGS)


BEFORE = {"perturb": attacks.UniformNoise(0.1), "seed": 3}


@pytest.fixture(scope="module")
def compiled():
    """Trained by compiled steps of other settings, time and again."""
    model = jarns.make(eager=False, **BEFORE)
    jarns.fit(model, *toys.batch(16))
    return model


@pytest.mark.parametrize("name", CHANGED)
def test_a_setting_changed_between_two_fits_takes_effect(compiled, name):
    """As on an eager model that is made with the new value and has come as far."""
    images, labels = toys.batch(16)
    other = jarns.make(**BEFORE | {name: CHANGED[name]})
    for network in ("classifier", "adaptor", "discriminator"):
        for suffix in ("", "_optimizer"):
            here, there = getattr(compiled, network + suffix), getattr(other, network + suffix)
            for a, b in zip(there.variables, here.variables):
                a.assign(b)
    before = getattr(compiled, name)
    setattr(compiled, name, CHANGED[name])
    for model in (compiled, other):
        jarns.fit(model, images, labels)
    setattr(compiled, name, before)
    toys.assert_same(toys.state(compiled), toys.state(other), rtol=1e-4, atol=1e-5)


def test_a_setting_changed_by_a_callback_or_in_place_takes_effect():
    """Noise of radius 0 from the second epoch on, once by a new object, once in the old one."""
    images, labels = toys.batch(8)

    def trained(change):
        model = jarns.make(eager=False, perturb=attacks.UniformNoise(0.5), seed=3)
        callback = keras.callbacks.LambdaCallback(
            on_epoch_begin=lambda epoch, logs: change(model) if epoch == 1 else None
        )
        jarns.fit(model, images, labels, epochs=2, callbacks=[callback])
        return toys.state(model)

    expected = trained(lambda model: setattr(model, "perturb", None))
    in_place = trained(lambda model: setattr(model.perturb, "epsilon", 0.0))
    toys.assert_same(in_place, expected, rtol=1e-5, atol=1e-6)
    assert toys.moved(expected, trained(lambda model: None))


def test_a_setting_changed_to_what_it_may_not_be_is_refused_in_one_line():
    images, labels = toys.batch(8)
    model = jarns.make()
    model.gan_loss = "wasserstein"
    before = toys.state(model)
    with pytest.raises(ValueError, match="gan_loss must be one of") as error:
        jarns.fit(model, images, labels)
    assert "\n" not in str(error.value)
    toys.assert_same(toys.state(model), before)


def test_a_penalty_of_the_discriminator_that_is_not_finite_stops_before_the_update():
    images, labels = toys.batch(8)
    model = jarns.make(discriminator_penalty=1e38)
    kernel = model.discriminator.layers[-1].kernel
    kernel.assign(100 * kernel)
    before = toys.state(model)
    with pytest.raises(ValueError, match="not finite.*step 0"):
        jarns.fit(model, images, labels)
    toys.assert_same(toys.state(model), before)


# Last, as an error of one replica alone ends TensorFlow's collective operations for the process.
def test_a_loss_not_finite_on_one_replica_stops_both(two_replicas):
    images, labels = toys.batch(16)
    weights = np.ones(16, np.float32)
    weights[15] = np.nan  # on the second replica, in the second batch
    with two_replicas.scope():
        model, until_there = jarns.make(eager=False), jarns.make(eager=False)
    jarns.fit(until_there, images[:8], labels[:8])
    with pytest.raises(ValueError, match="not finite.*step 1") as error:
        jarns.fit(model, images, labels, weights)
    assert "\n" not in str(error.value)
    toys.assert_same(toys.state(model), toys.state(until_there), rtol=1e-5, atol=1e-6)
