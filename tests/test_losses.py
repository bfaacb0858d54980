import math

import numpy as np
import pytest
import tensorflow as tf

from jarn_tf import losses


def test_a_discriminator_that_cannot_tell_gives_the_constant_of_theorem_3_1():
    zeros = tf.zeros(4, tf.float64)
    np.testing.assert_allclose(losses.adversarial_loss(zeros, zeros), [-math.log(4)] * 4)


def test_adversarial_loss_is_equation_9(rng):
    real, adapted = rng.normal(0, 3, (2, 50))
    d_real, d_adapted = 1 / (1 + np.exp(-real)), 1 / (1 + np.exp(-adapted))
    expected = np.log(d_real) + np.log(1 - d_adapted)
    actual = losses.adversarial_loss(tf.constant(real), tf.constant(adapted))
    np.testing.assert_allclose(actual, expected)


@pytest.mark.parametrize(
    ("gan_loss", "of_probability"),
    [("minimax", lambda d: np.log(1 - d)), ("non_saturating", lambda d: -np.log(d))],
)
def test_generator_loss(rng, gan_loss, of_probability):
    logits = rng.normal(0, 3, 50)
    expected = of_probability(1 / (1 + np.exp(-logits)))
    actual = losses.generator_loss(None, tf.constant(logits), gan_loss)
    np.testing.assert_allclose(actual, expected)


@pytest.mark.parametrize("one_hot", [False, True])
def test_cross_entropy_and_margin(rng, one_hot):
    logits = rng.normal(0, 3, (20, 4))
    labels = rng.integers(0, 4, 20)
    given = tf.constant(np.eye(4)[labels] if one_hot else labels)
    rows = np.arange(20)
    expected = np.log(np.exp(logits).sum(axis=1)) - logits[rows, labels]
    np.testing.assert_allclose(losses.cross_entropy(given, tf.constant(logits)), expected)
    margins = losses.margin(given, tf.constant(logits)).numpy()
    expected = [np.delete(z, y).max() - z[y] for z, y in zip(logits, labels)]
    np.testing.assert_allclose(margins, expected)
    np.testing.assert_array_equal(margins > 0, logits.argmax(axis=1) != labels)


def test_cross_entropy_as_keras_loss_is_the_mean(rng):
    logits = rng.normal(0, 3, (20, 4)).astype(np.float32)
    labels = rng.integers(0, 4, 20)
    expected = (np.log(np.exp(logits).sum(axis=1)) - logits[np.arange(20), labels]).mean()
    np.testing.assert_allclose(losses.CrossEntropy()(labels, logits), expected, rtol=1e-5)


def test_standardize(rng):
    images = rng.uniform(0, 1, (5, 4, 4, 3))
    flat = images.reshape(5, -1)
    centred = flat - flat.mean(axis=1, keepdims=True)
    expected = centred / np.sqrt((centred**2).sum(axis=1, keepdims=True))
    actual = losses.standardize(tf.constant(images)).numpy().reshape(5, -1)
    np.testing.assert_allclose(actual, expected, rtol=1e-10)


@pytest.mark.parametrize("size", [1e4, 1e30])
def test_extreme_logits_stay_finite(size):
    logits = tf.constant([[size, -size], [-size, size]])
    ends = tf.constant([size, -size])
    for function in (losses.cross_entropy, losses.margin):
        assert np.isfinite(function(tf.constant([0, 0]), logits)).all()
    assert np.isfinite(losses.adversarial_loss(-ends, ends)).all()
    with tf.GradientTape(persistent=True) as tape:
        tape.watch(ends)
        values = [losses.generator_loss(None, ends, kind) for kind in ("minimax", "non_saturating")]
    for value in values:
        assert np.isfinite(value).all()
        assert np.isfinite(tape.gradient(value, ends)).all()


def test_a_constant_image_standardizes_to_zero_with_a_finite_gradient():
    images = tf.fill((1, 4, 4, 1), 0.3)
    with tf.GradientTape() as tape:
        tape.watch(images)
        standardized = losses.standardize(images)
    np.testing.assert_allclose(standardized, np.zeros((1, 4, 4, 1)), atol=1e-6)
    assert np.isfinite(tape.gradient(standardized, images)).all()
