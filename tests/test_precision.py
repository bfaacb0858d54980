"""Networks under `mixed_bfloat16`, which has 8 bits of mantissa, against float32."""

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


@pytest.fixture
def policy():
    """Sets the policy that networks are built under."""
    yield keras.config.set_dtype_policy
    keras.config.set_dtype_policy("float32")


def classifiers(policy):
    """The same weights in float32 and under mixed_bfloat16."""
    exact = toys.classifier()
    policy("mixed_bfloat16")
    mixed = toys.classifier()
    mixed.set_weights(exact.get_weights())
    return exact, mixed


def test_the_jacobian_is_float32_and_near_the_exact_one(policy):
    exact, mixed = classifiers(policy)
    for of in ("loss", "softmax", "logit", "margin"):
        expected = input_jacobian(exact, IMAGES, LABELS, of).numpy()
        found = input_jacobian(mixed, IMAGES, LABELS, of)
        assert found.dtype == tf.float32
        assert np.linalg.norm(found - expected) < 2**-5 * np.linalg.norm(expected), of


def test_the_jacobian_is_that_of_finite_differences(policy):
    """Of the loss in float32, along random directions."""
    exact, mixed = classifiers(policy)

    def loss(images):
        logits = exact(images)
        return keras.losses.sparse_categorical_crossentropy(LABELS, logits, from_logits=True)

    jacobian = input_jacobian(mixed, IMAGES, LABELS).numpy()
    direction = np.random.default_rng(1).normal(size=IMAGES.shape).astype(np.float32)
    slopes = (loss(IMAGES + 1e-2 * direction) - loss(IMAGES - 1e-2 * direction)) / 2e-2
    found = (jacobian * direction).sum(axis=(1, 2, 3))
    assert np.linalg.norm(found - slopes) < 0.05 * np.linalg.norm(slopes)


@pytest.mark.parametrize("name", BUILD)
def test_training_goes_the_way_of_float32(name, policy):
    moved, losses = [], []
    for precision in ("float32", "mixed_bfloat16"):
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
def test_attacks_on_a_mixed_classifier(attack, policy):
    mixed = classifiers(policy)[1]
    found = attack(mixed, IMAGES, LABELS, epsilon=0.3)
    assert found.dtype == np.float32 and np.abs(found - IMAGES).max() <= 0.3 + 1e-6
    right = [np.argmax(mixed(images), axis=1) == LABELS for images in (IMAGES, found)]
    assert right[1].mean() < right[0].mean()


@pytest.mark.parametrize("precision", ["float64", "mixed_float16", "bfloat16"])
def test_other_precisions_are_refused(precision, policy):
    policy(precision)
    with pytest.raises(ValueError, match="float32, or under the policy mixed_bfloat16. Received"):
        Defense(toys.classifier())


def test_a_layer_of_another_precision_is_refused(policy):
    policy("mixed_float16")
    inner = toys.classifier()
    policy("float32")
    with pytest.raises(ValueError, match="Received a layer .* that computes in float16"):
        Defense(keras.Sequential([keras.Input(toys.IMAGE_SHAPE), inner]))
