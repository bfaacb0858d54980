"""`AdversarialExamples`: optima that are known, its ball, its warm-up, its randomness."""

import json
import math
from unittest import mock

import foolbox
import keras
import numpy as np
import pytest
import tensorflow as tf
import toys

from jarn_tf import Defense, attacks
from jarn_tf.attacks import AdversarialExamples
from jarn_tf.randomness import BatchSlice

PIXELS = math.prod(toys.IMAGE_SHAPE)


def perturb(classifier, images, labels, *, step=0, seed=0, **options):
    batch = BatchSlice.of(tf.constant(images), seed, tf.constant(step))
    examples = AdversarialExamples(**options)
    return examples(classifier, tf.constant(images), tf.constant(labels), batch).numpy()


def gray(n):
    """Images whose pixels are far from 0 and 1, and exact in binary."""
    return np.full((n, *toys.IMAGE_SHAPE), 0.5, np.float32), (np.arange(n) % 2).astype(np.int32)


def two_class_batch(n):
    images, labels = toys.batch(n)
    return images, labels % 2


def softmax(logits):
    e = np.exp(logits - logits.max(axis=1, keepdims=True))
    return e / e.sum(axis=1, keepdims=True)


@pytest.fixture
def two_classes(rng):
    """(linear classifier, w of class 1 minus w of class 0, of an image's shape)."""
    kernel = rng.normal(0, 0.3, (PIXELS, 2)).astype(np.float32)
    return toys.linear_classifier(kernel), (kernel[:, 1] - kernel[:, 0]).reshape(toys.IMAGE_SHAPE)


def away(w, labels):
    """The direction in which the loss of each image rises fastest."""
    return np.where(labels == 1, -1, 1)[:, None, None, None] * np.sign(w)


def noise_of(images, step=0, seed=0):
    """Where a random start lies in the ball, in units of its radius."""
    batch = BatchSlice.of(tf.constant(images), seed, tf.constant(step))
    return batch.uniform(images, -1.0, 1.0).numpy()


# Known results


def test_one_step_on_a_linear_classifier(rng):
    kernel, bias = rng.normal(0, 0.3, (PIXELS, 3)).astype(np.float32), [0.1, -0.2, 0.3]
    images, labels = toys.batch(20)
    p = softmax(images.reshape(20, -1) @ kernel.astype(np.float64) + bias)
    jacobian = ((p - np.eye(3)[labels]) @ kernel.T).reshape(images.shape)  # Eq. 6
    expected = np.clip(images + 0.1 * np.sign(jacobian), 0, 1)
    model = toys.linear_classifier(kernel, bias)
    found = perturb(model, images, labels, epsilon=0.1, steps=1, random_start=False)
    np.testing.assert_allclose(found, expected, atol=1e-6)


@pytest.mark.parametrize("steps", [1, 4])
def test_without_a_random_start_it_is_that_of_foolbox(steps):
    """And one step is `attacks.fgsm`."""
    model = toys.classifier()
    images, labels = toys.batch(20)
    step_size = 0.1 if steps == 1 else 0.04
    peer = foolbox.attacks.LinfPGD(abs_stepsize=step_size, steps=steps, random_start=False)
    _, expected, _ = peer(
        foolbox.TensorFlowModel(model, bounds=(0, 1)),
        tf.constant(images),
        tf.constant(labels, tf.int64),  # eagerpy compares equal types only
        epsilons=0.1,
    )
    options = {"epsilon": 0.1, "steps": steps, "random_start": False}
    found = perturb(model, images, labels, **options, step_size=None if steps == 1 else 0.04)
    np.testing.assert_allclose(found, expected, atol=1e-6)
    if steps == 1:
        np.testing.assert_array_equal(found, attacks.fgsm(model, images, labels, epsilon=0.1))


@pytest.mark.parametrize(("steps", "random_start"), [(7, False), (10, False), (10, True)])
def test_it_reaches_the_optimum_of_a_linear_classifier(two_classes, steps, random_start):
    model, w = two_classes
    images, labels = two_class_batch(20)
    optimum = np.clip(images + 0.2 * away(w, labels), 0, 1)
    options = {"epsilon": 0.2, "steps": steps, "random_start": random_start}
    found = perturb(model, images, labels, **options)
    np.testing.assert_allclose(found, optimum, atol=1e-6)


@pytest.mark.parametrize(
    ("options", "moved"),
    [
        ({"epsilon": 0.25, "steps": 3, "step_size": 0.0625}, 0.1875),
        ({"epsilon": 0.25, "steps": 3, "step_size": 0.125}, 0.25),  # stopped by the ball
        ({"epsilon": 8 / 255, "steps": 2}, 4 / 255),  # Madry et al.'s step is 2/255
        ({"epsilon": 8 / 255, "steps": 7}, 8 / 255),
        ({"epsilon": 8 / 255, "steps": 1}, 8 / 255),
    ],
)
def test_step_sizes(two_classes, options, moved):
    model, w = two_classes
    images, labels = gray(4)
    found = perturb(model, images, labels, random_start=False, **options)
    np.testing.assert_allclose(found - images, moved * away(w, labels), atol=1e-7)


def test_one_step_from_a_random_start_is_a_quarter_longer_than_the_radius(two_classes):
    """Pixels that start at 1/4 of the way back or nearer reach the corner (Wong et al., 2020)."""
    model, w = two_classes
    images, labels = gray(8)
    forward = np.float64(noise_of(images)) * away(w, labels)
    expected = 0.25 * np.minimum(forward + 1.25, 1) * away(w, labels)
    assert (forward > -0.25).any() and (forward < -0.25).any()
    found = perturb(model, images, labels, epsilon=0.25, steps=1)
    np.testing.assert_allclose(found - images, expected, atol=1e-6)


def test_the_last_point_is_the_result_even_where_the_image_is_worse():
    """Two steps of opposite direction end at the image; `attacks.pgd` returns the point between.

    The loss of class 0 is highest at 0.54, between the image at 0.5 and the first step's 0.5625.
    """
    image = keras.Input((1, 1, 1))
    peak = keras.layers.Lambda(lambda x: -100 * tf.square(x - 0.54))(image)
    logit = keras.layers.Flatten()(peak)
    model = keras.Model(image, keras.layers.Concatenate()([0 * logit, logit]))
    images, labels = np.full((1, 1, 1, 1), 0.5, np.float32), np.array([0])
    options = {"epsilon": 0.25, "step_size": 0.0625, "steps": 2, "random_start": False}
    np.testing.assert_allclose(perturb(model, images, labels, **options), images, atol=1e-6)
    np.testing.assert_allclose(attacks.pgd(model, images, labels, **options), 0.5625)


# The ball


@pytest.mark.parametrize("step", [0, 1, 6, 50])
@pytest.mark.parametrize("epsilon", [0.3, 8 / 255, 0.1])
@pytest.mark.parametrize(
    "options",
    [{"steps": 1, "random_start": False}, {"steps": 3}, {"steps": 3, "targets": "predictions"}],
    ids=["fgsm", "pgd", "pgd_kl"],
)
def test_images_stay_in_the_ball_to_the_last_bit(two_classes, options, epsilon, step):
    """Float64 holds the difference of two float32 pixels exactly, so no tolerance is needed."""
    model, _ = two_classes
    images, labels = two_class_batch(50)
    assert (images == 0).any() and (images == 1).any()
    found = perturb(model, images, labels, epsilon=epsilon, step=step, warmup_steps=8, **options)
    assert found.dtype == np.float32
    assert found.min() >= 0 and found.max() <= 1
    difference = np.abs(found.astype(np.float64) - images.astype(np.float64))
    radius = epsilon * ((step + 1) / 8 if step < 8 else 1)
    assert radius * 0.9 < difference.max() <= radius


def test_epsilon_0_is_the_image_itself():
    images, labels = toys.batch(6)
    for options in ({}, {"steps": 1, "random_start": False}, {"targets": "predictions"}):
        found = perturb(toys.classifier(), images, labels, epsilon=0, **options)
        np.testing.assert_array_equal(found, images)


# Warm-up


@pytest.mark.parametrize(
    "options",
    [
        {"steps": 1, "random_start": False},
        {"steps": 10},
        {"steps": 2, "step_size": 0.25, "random_start": False},
        {"steps": 10, "targets": "predictions"},
    ],
)
def test_radius_grows_by_equal_parts_over_the_warm_up(two_classes, options):
    model, _ = two_classes
    images, labels = gray(4)
    radii = [
        np.abs(
            perturb(
                model, images, labels, epsilon=0.25, warmup_steps=4, step=step, **options
            ) - images
        ).max()
        for step in (0, 1, 2, 3, 4, 1000)
    ]  # fmt: skip
    np.testing.assert_array_equal(radii, [0.0625, 0.125, 0.1875, 0.25, 0.25, 0.25])


def test_step_size_grows_with_the_radius(two_classes):
    model, _ = two_classes
    images, labels = gray(4)
    options = {"epsilon": 0.25, "steps": 2, "step_size": 0.0625, "random_start": False}
    for step, moved in ((0, 0.0625), (1, 0.125), (2, 0.125)):
        found = perturb(model, images, labels, step=step, warmup_steps=2, **options)
        np.testing.assert_array_equal(np.abs(found - images), moved)


def test_training_warms_up_over_its_steps_and_not_again_in_the_next_fit(two_classes):
    images, labels = gray(24)
    examples = AdversarialExamples(0.25, steps=1, random_start=False, warmup_steps=4)
    model = Defense(two_classes[0], perturb=examples)
    model.compile(keras.optimizers.SGD(0.0), run_eagerly=True)
    radii = []
    original = AdversarialExamples.__call__

    def watched(*args):
        found = original(*args)
        radii.append(float(tf.reduce_max(tf.abs(found - args[2]))))
        return found

    with mock.patch.object(AdversarialExamples, "__call__", watched):
        for _ in range(2):
            model.fit(images, labels, 8, shuffle=False, verbose=0)
    assert radii == [0.0625, 0.125, 0.1875, 0.25, 0.25, 0.25]


# Predictions as targets


def test_predictions_as_targets_climb_the_divergence_from_the_clean_prediction():
    model = toys.classifier()
    images, labels = toys.batch(20)
    options = {"epsilon": 0.1, "steps": 5, "targets": "predictions"}
    found = perturb(model, images, labels, **options)
    p = softmax(np.asarray(model(images), np.float64))

    def divergence(x):
        return (p * np.log(p / softmax(np.asarray(model(x), np.float64)))).sum(axis=1)

    start = np.clip(images + 0.1 * noise_of(images), 0, 1)
    assert (divergence(found) > divergence(start)).all()
    assert divergence(found).mean() > 3 * divergence(start).mean()


def test_predictions_as_targets_move_a_linear_classifier_on_where_the_noise_began(two_classes):
    """With two classes the divergence grows along w on either side of the image."""
    model, w = two_classes
    images, labels = gray(20)
    side = np.sign((np.float64(noise_of(images)) * w).sum(axis=(1, 2, 3)))
    assert set(side) == {-1, 1}
    found = perturb(model, images, labels, epsilon=0.25, steps=10, targets="predictions")
    np.testing.assert_array_equal(found - images, 0.25 * side[:, None, None, None] * np.sign(w))


def test_only_labels_as_targets_use_the_labels():
    model = toys.classifier()
    images, labels = toys.batch(8)
    for targets, same in (("predictions", True), ("labels", False)):
        found = [
            perturb(model, images, given, epsilon=0.1, steps=2, targets=targets)
            for given in (labels, (labels + 1) % toys.CLASSES)
        ]
        assert np.array_equal(*found) == same


def test_predictions_as_targets_without_a_random_start():
    with pytest.raises(ValueError, match="needs random_start=True") as error:
        AdversarialExamples(0.1, random_start=False, targets="predictions")
    assert "\n" not in str(error.value)


# Randomness


def start_only(images, labels, **options):
    """The random start: the steps are too small to be seen in float32."""
    options = {"epsilon": 0.25, "steps": 1, "step_size": 1e-12} | options
    return perturb(toys.classifier(), images, labels, **options)


def test_start_is_uniform_over_the_ball():
    images, labels = gray(50)
    difference = start_only(images, labels) - images
    assert 0.249 < np.abs(difference).max() <= 0.25
    assert abs(difference.mean()) < 4 * 0.25 / math.sqrt(3 * difference.size)
    np.testing.assert_allclose(difference.std(), 0.25 / math.sqrt(3), rtol=0.03)
    assert np.unique(difference).size > 0.99 * difference.size


def test_start_is_a_function_of_seed_and_step():
    images, labels = toys.batch(4)
    first = start_only(images, labels, step=3, seed=5)
    np.testing.assert_array_equal(first, start_only(images, labels, step=3, seed=5))
    for other in ({"step": 4, "seed": 5}, {"step": 3, "seed": 6}, {"step": 5, "seed": 3}):
        assert (first != start_only(images, labels, **other)).mean() > 0.5


def test_start_is_in_the_range_of_pixels(rng):
    """So that the classifier never sees a pixel outside it."""

    class Pixels(keras.layers.Layer):
        def call(self, x):
            tf.debugging.assert_non_negative(x)
            tf.debugging.assert_less_equal(x, 1.0)
            return tf.identity(x)

    linear = toys.linear_classifier(rng.normal(0, 0.3, (PIXELS, 3)))
    model = keras.Sequential([keras.Input(toys.IMAGE_SHAPE), Pixels(), linear])
    images, labels = toys.batch(8)
    with pytest.raises(tf.errors.InvalidArgumentError):
        model(images - 0.1)
    for targets in ("labels", "predictions"):
        perturb(model, images, labels, epsilon=0.3, steps=2, targets=targets)


@pytest.mark.parametrize("targets", ["labels", "predictions"])
def test_slices_are_perturbed_as_the_whole_batch_is(rng, targets):
    """Also a slice of no images, as an epoch's last batch can leave to a replica."""
    model = toys.linear_classifier(rng.normal(0, 0.3, (PIXELS, 3)))
    images, labels = map(tf.constant, toys.batch(7))
    step, examples = tf.constant(5), AdversarialExamples(0.2, steps=2, targets=targets)
    whole = examples(model, images, labels, BatchSlice.of(images, 3, step))
    parts = []
    for start, stop in ((0, 4), (4, 7), (7, 7)):
        of_batch = BatchSlice(3, step, *map(tf.constant, (start, stop - start, 7)))
        parts.append(examples(model, images[start:stop], labels[start:stop], of_batch))
    np.testing.assert_allclose(np.concatenate(parts), whole, atol=1e-6)


# The classifier


def normalized_classifier():
    """With batch normalisation and dropout, whose two modes differ much."""
    keras.utils.set_random_seed(0)
    return keras.Sequential(
        [
            keras.Input(toys.IMAGE_SHAPE),
            keras.layers.BatchNormalization(momentum=0.9),
            keras.layers.Dropout(0.5),
            keras.layers.Conv2D(4, 3, activation="tanh"),
            keras.layers.Flatten(),
            keras.layers.Dense(toys.CLASSES),
        ]
    )


@pytest.mark.parametrize("targets", ["labels", "predictions"])
def test_the_attack_is_on_inference_mode_and_leaves_the_classifier_alone(targets):
    """In training mode an image's result would depend on the others, and on chance."""
    model = normalized_classifier()
    before = toys.arrays(model.variables)
    images, labels = toys.batch(6)
    batch = BatchSlice.of(tf.constant(images), 0, tf.constant(0))
    examples = AdversarialExamples(0.2, steps=2, targets=targets)
    together = examples(model, tf.constant(images), tf.constant(labels), batch)
    for i in range(6):
        row = BatchSlice(0, batch.step, tf.constant(i), tf.constant(1), tf.constant(6))
        alone = examples(model, tf.constant(images[i : i + 1]), tf.constant(labels[i : i + 1]), row)
        np.testing.assert_allclose(alone[0], together[i], atol=1e-6)
    for a, b in zip(toys.arrays(model.variables), before):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("run_eagerly", [False, True])
def test_moving_averages_after_a_step_are_those_of_the_perturbed_images_alone(run_eagerly):
    images, labels = toys.batch(8)
    options = {"epsilon": 0.2, "steps": 2}
    classifier = normalized_classifier()
    perturbed = perturb(classifier, images, labels, seed=3, **options)
    model = Defense(classifier, perturb=AdversarialExamples(**options), seed=3)
    model.compile(keras.optimizers.SGD(0.0), run_eagerly=run_eagerly)
    model.fit(images, labels, 8, shuffle=False, verbose=0)
    norm = classifier.layers[0]
    np.testing.assert_allclose(norm.moving_mean, 0.1 * perturbed.mean(axis=(0, 1, 2)), rtol=1e-5)
    expected = 0.9 + 0.1 * perturbed.var(axis=(0, 1, 2))
    np.testing.assert_allclose(norm.moving_variance, expected, rtol=1e-5)


# Arguments


@pytest.mark.parametrize(
    "options",
    [
        {"epsilon": 8 / 255},
        {
            "epsilon": np.float32(0.3),
            "steps": 3,
            "step_size": 0.125,
            "random_start": True,
            "warmup_steps": 4,
            "targets": "predictions",
        },
        {"epsilon": 1, "steps": 1, "random_start": False, "warmup_steps": 2},
    ],
)
def test_saved_and_loaded_it_is_the_same(options):
    examples = AdversarialExamples(**options)
    saved = json.loads(json.dumps(keras.saving.serialize_keras_object(examples)))
    loaded = keras.saving.deserialize_keras_object(saved)
    assert type(loaded) is AdversarialExamples
    assert vars(loaded) == vars(examples)
    assert options.items() <= loaded.get_config().items()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"epsilon": -0.1}, "epsilon must be a number in"),
        ({"epsilon": 8}, "did you mean 8/255"),
        ({"epsilon": math.nan}, "epsilon must be a number in"),
        ({"steps": 0}, "steps must be a whole number of at least 1"),
        ({"steps": 2.5}, "steps must be a whole number"),
        # With these the attack would silently do nothing.
        ({"step_size": 0.0}, "step_size must be a finite number above 0"),
        ({"step_size": -0.1}, "step_size must be a finite number above 0"),
        ({"step_size": math.nan}, "step_size must be a finite number above 0"),
        ({"warmup_steps": -1}, "warmup_steps must be a whole number of at least 0"),
        ({"warmup_steps": 0.5}, "warmup_steps must be a whole number"),
        ({"targets": "logits"}, "targets must be one of labels, predictions"),
    ],
)
def test_bad_options(options, message):
    with pytest.raises(ValueError, match=message) as error:
        AdversarialExamples(**{"epsilon": 0.3} | options)
    assert "\n" not in str(error.value)
