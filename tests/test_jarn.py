"""Which network moves at which step; eager, compiled and on replicas."""

import jarns
import keras
import numpy as np
import pytest
import tensorflow as tf
import toys

from jarn_tf import JARN, attacks

L2 = keras.regularizers.L2


class Recorder(keras.callbacks.Callback):
    """What moved at each step."""

    def on_train_begin(self, logs=None):
        self.before = toys.state(self.model)
        self.moved = []

    def on_train_batch_end(self, batch, logs=None):
        after = toys.state(self.model)
        self.moved.append({k.split("/")[0] for k in toys.moved(self.before, after)})
        self.before = after


@pytest.mark.parametrize("batch_norm", [False, True])
def test_discriminator_moves_at_steps_0_k_2k_of_its_phase_and_not_between(batch_norm):
    """Nor do its optimizer's moments and iterations, nor its moving averages."""
    model = jarns.make(
        optimizer=keras.optimizers.Adam,
        eager=batch_norm,  # one of the two compiled
        discriminator=toys.discriminator(batch_norm=batch_norm),
        start_step=2,
        discriminator_interval=3,
    )
    recorder = Recorder()
    images, labels = toys.batch(20)  # 3 steps an epoch
    jarns.fit(model, images, labels, epochs=3, callbacks=[recorder])
    classifier = {"classifier", "classifier_optimizer"}
    adaptor = {"adaptor", "adaptor_optimizer"}
    discriminator = {"discriminator", "discriminator_optimizer"}
    expected = [
        classifier
        | (adaptor if step >= 2 else set())
        | (discriminator if step in (2, 5, 8) else set())
        for step in range(9)
    ]
    assert recorder.moved == expected
    iterations = [int(getattr(model, o).iterations) for o in JARN.OPTIMIZERS]
    assert iterations == [9, 7, 3]


def test_moving_averages_of_the_discriminator_are_those_of_one_pass_over_both(rng):
    images, labels = toys.batch(8)
    model = jarns.make(discriminator=toys.discriminator(batch_norm=True))
    shown = []
    first = model.discriminator.layers[0]
    seen_by_norm = keras.Model(model.discriminator.inputs, first.output)
    original = model.discriminator.call

    def spy(x, **kwargs):
        shown.append(np.array(seen_by_norm(x)))
        return original(x, **kwargs)

    model.discriminator.call = spy
    jarns.fit(model, images, labels)
    (outputs,) = shown
    assert len(outputs) == 16
    norm = model.discriminator.layers[1]
    np.testing.assert_allclose(norm.moving_mean, 0.1 * outputs.mean(axis=(0, 1, 2)), atol=1e-6)
    expected = 0.9 + 0.1 * outputs.var(axis=(0, 1, 2))
    np.testing.assert_allclose(norm.moving_variance, expected, atol=1e-6)


def test_before_its_phase_it_is_plain_keras_training():
    images, labels = toys.batch(20)
    plain = toys.classifier(kernel_regularizer=L2(0.01))
    plain.compile(
        keras.optimizers.SGD(0.5), keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    )
    jarns.fit(plain, images, labels, epochs=2)
    model = jarns.make(classifier=toys.classifier(kernel_regularizer=L2(0.01)), start_step=100)
    before = toys.state(model)
    history = jarns.fit(model, images, labels, epochs=2).history
    changed = {k.split("/")[0] for k in toys.moved(before, toys.state(model))}
    assert changed == {"classifier", "classifier_optimizer"}
    for a, b in zip(toys.arrays(model.classifier.weights), toys.arrays(plain.weights)):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)
    assert "adversarial_loss" not in history or np.isnan(history["adversarial_loss"]).all()


def test_reported_game_is_that_of_the_steps_on_which_the_discriminator_learned():
    """Rates 0 keep all networks, so the figures can be computed afterwards."""
    images, labels = toys.batch(8)
    model = jarns.make(rate=0.0)
    adapted = model.adapt(
        algorithm_jacobian(model.classifier, tf.constant(images), tf.constant(labels))
    )
    real_logit = np.array(model.discriminator(images), np.float64)[:, 0]
    adapted_logit = np.array(model.discriminator(adapted), np.float64)[:, 0]
    l_adv = np.log(1 / (1 + np.exp(-real_logit))) + np.log(1 - 1 / (1 + np.exp(-adapted_logit)))
    history = jarns.fit(model, images, labels).history
    np.testing.assert_allclose(history["adversarial_loss"], [l_adv.mean()], rtol=1e-4)
    np.testing.assert_allclose(history["discriminator_real_accuracy"], [(real_logit > 0).mean()])
    np.testing.assert_allclose(
        history["discriminator_adapted_accuracy"], [(adapted_logit <= 0).mean()]
    )


def algorithm_jacobian(classifier, images, labels):
    with tf.GradientTape() as tape:
        tape.watch(images)
        loss = keras.losses.sparse_categorical_crossentropy(
            labels, classifier(images), from_logits=True
        )
    return tape.gradient(loss, images)


# Eager, graph and replicas


def varied(**options):
    """Every kind of step, noise, weight decay."""
    options.setdefault("classifier", toys.classifier(kernel_regularizer=L2(0.01)))
    options.setdefault("eager", False)
    return jarns.make(
        **{"start_step": 1, "discriminator_interval": 2} | options,
        perturb=attacks.UniformNoise(0.2, 0.5),
        seed=3,
    )


def varied_dense():
    """The discriminator learns at every step."""
    keras.utils.set_random_seed(0)
    layers, image = keras.layers, keras.Input(toys.IMAGE_SHAPE)
    hidden = layers.Dense(8, activation="tanh", kernel_regularizer=L2(0.01))
    hidden = hidden(layers.Flatten()(image))
    return varied(
        classifier=keras.Model(image, layers.Dense(toys.CLASSES)(hidden)),
        adaptor=keras.Sequential([image, layers.Dense(2, activation="tanh")]),
        discriminator=keras.Sequential([image, layers.Flatten(), layers.Dense(1)]),
        start_step=0,
        discriminator_interval=1,
    )


def varied_ours():
    """With the options that the paper does not have."""
    return varied(
        jacobian_of="margin",
        real_images="blurred",
        regularization_interval=2,
        jacobian_penalty=0.3,
        discriminator_penalty=0.7,
        discriminator_noise=0.4,
    )


def test_eager_is_graph():
    images, labels = toys.batch(29)
    graph, eager = varied(), varied(eager=True)
    for model in (graph, eager):
        jarns.fit(model, images, labels)
    toys.assert_same(toys.state(eager), toys.state(graph), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(("n", "build"), [(29, varied), (17, varied_dense), (29, varied_ours)])
def test_one_replica_is_two(n, build, two_replicas):
    """The last batch splits into 3 and 2, or into 1 and none.

    Dense in the second case, as TensorFlow's convolutions give no images a wrong shape.
    """
    images, labels = toys.batch(n)
    weights = np.random.default_rng(0).uniform(0.2, 2, n).astype(np.float32)
    one = build()
    with two_replicas.scope():
        two = build()
    histories = [jarns.fit(m, images, labels, weights).history for m in (one, two)]
    toys.assert_same(toys.state(two), toys.state(one), rtol=1e-5, atol=1e-5)
    for name, values in histories[0].items():
        np.testing.assert_allclose(histories[1][name], values, atol=1e-4, err_msg=name)
    expected = one.evaluate(images, labels, 8, verbose=0)
    np.testing.assert_allclose(two.evaluate(images, labels, 8, verbose=0), expected, atol=1e-4)
