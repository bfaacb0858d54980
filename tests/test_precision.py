"""Networks in bfloat16 (8 bits of mantissa) and in float16 (down to 6e-8) against float32."""

import keras
import numpy as np
import pytest
import tensorflow as tf
import toys

from jarn_tf import JARN, Defense, attacks, input_jacobian
from jarn_tf.baselines import TRADES, GradientAlignment, InputGradientPenalty, LogitJacobianPenalty

IMAGES, LABELS = toys.batch(24)

BUILD = {
    "none": Defense,
    "double backprop": lambda classifier, **o: InputGradientPenalty(classifier, 0.5, **o),
    "frobenius": lambda classifier, **o: LogitJacobianPenalty(classifier, 0.1, **o),
    "trades": lambda classifier, **o: TRADES(classifier, 1.0, **o),
    "alignment": lambda classifier, **o: GradientAlignment(classifier, 0.5, 0.1, **o),
    "jarn": lambda classifier, **o: JARN(classifier, toys.adaptor(), toys.discriminator(), **o),
}


MIXED = pytest.mark.parametrize("mixed", ["mixed_bfloat16", "mixed_float16"])


@pytest.fixture
def policy():
    """Sets the policy that networks are built under."""
    yield keras.config.set_dtype_policy
    keras.config.set_dtype_policy("float32")


def classifiers(policy, precision):
    """The same weights in float32 and in mixed precision."""
    exact = toys.classifier()
    policy(precision)
    mixed = toys.classifier()
    mixed.set_weights(exact.get_weights())
    return exact, mixed


@MIXED
def test_the_jacobian_is_float32_and_near_the_exact_one(policy, mixed):
    exact, mixed = classifiers(policy, mixed)
    for of in ("loss", "softmax", "logit", "margin"):
        expected = input_jacobian(exact, IMAGES, LABELS, of).numpy()
        found = input_jacobian(mixed, IMAGES, LABELS, of)
        assert found.dtype == tf.float32
        assert np.linalg.norm(found - expected) < 2**-5 * np.linalg.norm(expected), of


@MIXED
def test_the_jacobian_is_that_of_finite_differences(policy, mixed):
    """Of the loss in float32, along random directions."""
    exact, mixed = classifiers(policy, mixed)

    def loss(images):
        logits = exact(images)
        return keras.losses.sparse_categorical_crossentropy(LABELS, logits, from_logits=True)

    jacobian = input_jacobian(mixed, IMAGES, LABELS).numpy()
    direction = np.random.default_rng(1).normal(size=IMAGES.shape).astype(np.float32)
    slopes = (loss(IMAGES + 1e-2 * direction) - loss(IMAGES - 1e-2 * direction)) / 2e-2
    found = (jacobian * direction).sum(axis=(1, 2, 3))
    assert np.linalg.norm(found - slopes) < 0.05 * np.linalg.norm(slopes)


@MIXED
@pytest.mark.parametrize("name", BUILD)
def test_training_goes_the_way_of_float32(name, policy, mixed):
    moved, losses = [], []
    for precision in ("float32", mixed):
        policy(precision)
        model = BUILD[name](toys.classifier(), perturb=attacks.UniformNoise(0.1))
        model.compile(keras.optimizers.SGD(0.1), run_eagerly=True)
        before = toys.arrays(model.classifier.weights)
        losses.append(model.fit(IMAGES, LABELS, batch_size=24, verbose=0).history["loss"][0])
        assert all(w.dtype == "float32" for w in model.classifier.weights)
        assert model(IMAGES).dtype == tf.float32
        after = toys.arrays(model.classifier.weights)
        moved.append(np.concatenate([(a - b).ravel() for a, b in zip(after, before)]))
    exact, mixed = moved
    assert losses[1] == pytest.approx(losses[0], rel=0.02)
    assert np.linalg.norm(mixed - exact) < 0.1 * np.linalg.norm(exact)


@pytest.mark.parametrize("attack", [attacks.fgsm, attacks.pgd, attacks.apgd, attacks.square])
@MIXED
def test_attacks_on_a_mixed_classifier(attack, policy, mixed):
    mixed = classifiers(policy, mixed)[1]
    found = attack(mixed, IMAGES, LABELS, epsilon=0.3)
    assert found.dtype == np.float32 and np.abs(found - IMAGES).max() <= 0.3 + 1e-6
    right = [np.argmax(mixed(images), axis=1) == LABELS for images in (IMAGES, found)]
    assert right[1].mean() < right[0].mean()


@pytest.mark.parametrize("precision", ["float64", "float16", "bfloat16"])
def test_other_precisions_are_refused(precision, policy):
    policy(precision)
    with pytest.raises(ValueError, match="float32, or under the policy mixed_.* Received a layer"):
        Defense(toys.classifier())


def sure_classifier():
    """Linear, with a lead of 14: its Jacobian of 2e-8 is 0 in float16."""
    kernel = np.zeros((72, 2), np.float32)
    kernel[0] = 0.01, -0.01
    return toys.linear_classifier(kernel, bias=np.array([7.0, -7.0]), dtype=None)


def test_a_gradient_below_the_smallest_half(policy):
    """The Jacobian of the cross-entropy of a linear classifier is p (w_1 - w_0)."""
    policy("mixed_float16")
    images, labels = IMAGES[:4], np.zeros(4, np.int32)
    found = input_jacobian(sure_classifier(), images, labels).numpy()[:, 0, 0, 0]
    lead = 14 + 0.02 * images[:, 0, 0, 0]
    assert found == pytest.approx(-0.02 / (1 + np.exp(lead)), rel=0.1)
    moved = attacks.fgsm(sure_classifier(), images, labels, epsilon=0.1)
    assert (moved[:, 0, 0, 0] < images[:, 0, 0, 0]).all()


def steps_and_scale(scale):
    """Of 15 steps in float16 with a first loss scale."""
    with tf.distribute.get_strategy().scope():
        model = JARN(toys.classifier(), toys.adaptor(), toys.discriminator())
        optimizer = keras.optimizers.LossScaleOptimizer(keras.optimizers.SGD(0.1), scale)
        model.compile(optimizer)
    model.fit(IMAGES, LABELS, batch_size=24, epochs=15, verbose=0, shuffle=False)
    return int(model.step), float(model.classifier_optimizer.dynamic_scale.numpy()), model


@pytest.mark.parametrize("replicas", [1, 2])
def test_steps_that_overflow_are_skipped_and_halve_the_scale(replicas, policy, two_replicas):
    policy("mixed_float16")
    strategy = two_replicas if replicas == 2 else tf.distribute.get_strategy()
    with strategy.scope():
        steps, scale, model = steps_and_scale(2.0**26)
    assert 0 < steps < 15 and scale == 2.0 ** (26 - (15 - steps))
    assert all(np.isfinite(weights).all() for weights in model.get_weights())


def test_a_loss_scale_changes_nothing_in_float32():
    """The gradient is multiplied and divided by the same power of 2."""
    kept = []
    for scale in (None, 2.0**10):
        model = JARN(toys.classifier(), toys.adaptor(), toys.discriminator())
        model.compile(*(keras.optimizers.Adam(0.01, loss_scale_factor=scale) for _ in range(3)))
        model.fit(IMAGES, LABELS, batch_size=8, verbose=0, shuffle=False)
        kept.append(toys.arrays(model.weights))
    for plain, scaled in zip(*kept):
        np.testing.assert_allclose(scaled, plain, rtol=1e-5, atol=1e-7)
