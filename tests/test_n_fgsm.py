"""`NFGSM`: its one step in closed form, how far it reaches, its warm-up, its randomness."""

import json
import math

import keras
import numpy as np
import pytest
import tensorflow as tf
import toys

from jarn_tf.attacks import NFGSM
from jarn_tf.randomness import BatchSlice

PIXELS = math.prod(toys.IMAGE_SHAPE)


def perturb(classifier, images, labels, *, step=0, seed=0, **options):
    batch = BatchSlice.of(tf.constant(images), seed, tf.constant(step))
    examples = NFGSM(**options)
    return examples(classifier, tf.constant(images), tf.constant(labels), batch).numpy()


def noise_of(images, step=0, seed=0):
    """The noise in units of its radius."""
    batch = BatchSlice.of(tf.constant(images), seed, tf.constant(step))
    return np.float64(batch.uniform(images, -1.0, 1.0).numpy())


def gray(n):
    """Images whose pixels are far from 0 and 1, and labels of two classes."""
    return np.full((n, *toys.IMAGE_SHAPE), 0.5, np.float32), (np.arange(n) % 2).astype(np.int32)


@pytest.fixture
def two_classes(rng):
    """(linear classifier, w of class 1 minus w of class 0, of an image's shape)."""
    kernel = rng.normal(0, 0.3, (PIXELS, 2)).astype(np.float32)
    return toys.linear_classifier(kernel), (kernel[:, 1] - kernel[:, 0]).reshape(toys.IMAGE_SHAPE)


def away(w, labels):
    """The direction in which the loss of each image rises fastest."""
    return np.where(labels == 1, -1, 1)[:, None, None, None] * np.sign(w)


# The step


def test_on_a_linear_classifier_of_two_classes_it_is_noise_and_epsilon_along_w(two_classes):
    model, w = two_classes
    images, labels = gray(8)
    found = perturb(model, images, labels, epsilon=0.125)
    expected = images + 0.25 * noise_of(images) + 0.125 * away(w, labels)
    np.testing.assert_allclose(found, expected, atol=1e-6)


@pytest.mark.parametrize(
    ("options", "radius", "step"),
    [
        ({"noise": 0.5}, 0.05, 0.1),
        ({"noise": 3.0}, 0.3, 0.1),
        ({"step_size": 0.02}, 0.2, 0.02),
    ],
)
def test_noise_and_step_size_are_options(two_classes, options, radius, step):
    model, w = two_classes
    images, labels = gray(8)
    found = perturb(model, images, labels, epsilon=0.1, **options)
    expected = images + radius * noise_of(images) + step * away(w, labels)
    np.testing.assert_allclose(found, expected, atol=1e-6)


def test_pixels_are_clipped_before_the_step_and_after_it(two_classes):
    """Clipped once, the noise would take a pixel at 1 further down than it was let go up."""
    model, w = two_classes
    images, labels = toys.batch(50)
    labels %= 2
    noisy = np.clip(images + 0.4 * noise_of(images), 0, 1)
    expected = np.clip(noisy + 0.2 * away(w, labels), 0, 1)
    once = np.clip(images + 0.4 * noise_of(images) + 0.2 * away(w, labels), 0, 1)
    assert np.abs(expected - once).max() > 0.1
    found = perturb(model, images, labels, epsilon=0.2)
    np.testing.assert_allclose(found, expected, atol=1e-6)
    assert found.min() >= 0 and found.max() <= 1 and found.dtype == np.float32


def test_the_gradient_is_that_at_the_noisy_image():
    """Of a classifier that is not linear, against autodiff on the closed form's point."""
    model = toys.classifier()
    images, labels = toys.batch(20)
    noisy = tf.constant(np.clip(images + 0.6 * noise_of(images), 0, 1), tf.float32)

    def gradient(x):
        with tf.GradientTape() as tape:
            tape.watch(x)
            loss = keras.losses.sparse_categorical_crossentropy(labels, model(x), from_logits=True)
        return tape.gradient(loss, x).numpy()

    there, at_image = np.sign(gradient(noisy)), np.sign(gradient(tf.constant(images)))
    assert (there != at_image).mean() > 0.01
    found = perturb(model, images, labels, epsilon=0.3)
    np.testing.assert_allclose(found, np.clip(noisy + 0.3 * there, 0, 1), atol=1e-6)


@pytest.mark.parametrize("epsilon", [8 / 255, 0.1])
def test_it_reaches_beyond_the_ball_but_not_beyond_three_radii(two_classes, epsilon):
    model, _ = two_classes
    images, labels = gray(50)
    difference = np.abs(perturb(model, images, labels, epsilon=epsilon) - images)
    assert 2.9 * epsilon < difference.max() <= 3 * epsilon + 1e-6
    beyond = (difference > epsilon).mean()  # |2u + 1| > 1 for u uniform in [-1, 1]: a half
    assert abs(beyond - 0.5) < 4 * 0.5 / math.sqrt(difference.size)


def test_epsilon_0_is_the_image_itself():
    images, labels = toys.batch(6)
    found = perturb(toys.classifier(), images, labels, epsilon=0)
    np.testing.assert_array_equal(found, images)


# Warm-up and randomness


@pytest.mark.parametrize(("step", "grown"), [(0, 0.25), (1, 0.5), (3, 1.0), (4, 1.0), (1000, 1.0)])
def test_noise_and_step_grow_by_equal_parts_over_the_warm_up(two_classes, step, grown):
    model, w = two_classes
    images, labels = gray(4)
    found = perturb(model, images, labels, epsilon=0.125, warmup_steps=4, step=step)
    expected = 0.25 * noise_of(images, step) + 0.125 * away(w, labels)
    np.testing.assert_allclose(found - images, grown * expected, atol=1e-6)


def test_it_is_a_function_of_seed_and_step():
    model = toys.classifier()
    images, labels = toys.batch(4)
    first = perturb(model, images, labels, epsilon=0.2, step=3, seed=5)
    again = perturb(model, images, labels, epsilon=0.2, step=3, seed=5)
    np.testing.assert_array_equal(first, again)
    for other in ({"step": 4, "seed": 5}, {"step": 3, "seed": 6}, {"step": 5, "seed": 3}):
        found = perturb(model, images, labels, epsilon=0.2, **other)
        assert (found != first).mean() > 0.5


def test_slices_are_perturbed_as_the_whole_batch_is(two_classes):
    """Also a slice of no images, as an epoch's last batch can leave to a replica."""
    images, labels = map(tf.constant, gray(7))
    step, examples = tf.constant(5), NFGSM(0.1)
    whole = examples(two_classes[0], images, labels, BatchSlice.of(images, 3, step))
    parts = []
    for start, stop in ((0, 4), (4, 7), (7, 7)):
        of_batch = BatchSlice(3, step, *map(tf.constant, (start, stop - start, 7)))
        parts.append(examples(two_classes[0], images[start:stop], labels[start:stop], of_batch))
    np.testing.assert_allclose(np.concatenate(parts), whole, atol=1e-6)


def test_the_attack_is_on_inference_mode_and_leaves_the_classifier_alone():
    keras.utils.set_random_seed(0)
    model = keras.Sequential(
        [
            keras.Input(toys.IMAGE_SHAPE),
            keras.layers.BatchNormalization(),
            keras.layers.Flatten(),
            keras.layers.Dense(toys.CLASSES),
        ]
    )
    before = toys.arrays(model.variables)
    images, labels = toys.batch(6)
    perturb(model, images, labels, epsilon=0.2)
    for a, b in zip(toys.arrays(model.variables), before):
        np.testing.assert_array_equal(a, b)


# Arguments


@pytest.mark.parametrize(
    "options",
    [{"epsilon": 8 / 255}, {"epsilon": 1, "noise": 0.5, "step_size": 0.125, "warmup_steps": 4}],
)
def test_saved_and_loaded_it_is_the_same(options):
    examples = NFGSM(**options)
    saved = json.loads(json.dumps(keras.saving.serialize_keras_object(examples)))
    loaded = keras.saving.deserialize_keras_object(saved)
    assert type(loaded) is NFGSM
    assert vars(loaded) == vars(examples)
    assert options.items() <= loaded.get_config().items()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"epsilon": -0.1}, "epsilon must be a number in"),
        ({"epsilon": 8}, "did you mean 8/255"),
        ({"noise": 0.0}, "noise must be a finite number above 0"),
        ({"noise": math.nan}, "noise must be a finite number above 0"),
        ({"step_size": 0.0}, "step_size must be a finite number above 0"),
        ({"warmup_steps": -1}, "warmup_steps must be a whole number of at least 0"),
    ],
)
def test_bad_options(options, message):
    with pytest.raises(ValueError, match=message) as error:
        NFGSM(**{"epsilon": 0.3} | options)
    assert "\n" not in str(error.value)
