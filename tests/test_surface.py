import math

import keras
import numpy as np
import pytest
import toys

from jarn_tf import evaluation
from jarn_tf.evaluation import surface

PIXELS = int(np.prod(toys.IMAGE_SHAPE))


def cross_entropy(logits, labels):
    logits = np.asarray(logits, np.float64)
    return np.log(np.exp(logits).sum(axis=1)) - logits[np.arange(len(labels)), labels]


def linear(classes=2, unread=0, seed=0):
    weights = np.random.default_rng(seed).normal(0, 0.3, (PIXELS, classes)).astype(np.float32)
    weights[:unread] = 0
    return toys.linear_classifier(weights), weights.astype(np.float64)


def test_it_begins_with_the_cross_entropy_of_the_image():
    model = toys.classifier()
    images, labels = toys.batch(6)
    found = evaluation.loss_surface(model, images, labels, epsilon=0.1, points=3)
    assert found.shape == (6, 3, 3)
    expected = keras.losses.sparse_categorical_crossentropy(labels, model(images), from_logits=True)
    np.testing.assert_allclose(found[:, 0, 0], expected, rtol=1e-5)


def test_adversarial_axis_of_a_linear_classifier():
    """Of two classes the gradient's sign is the same everywhere on the way."""
    model, weights = linear()
    images, labels = toys.batch(5)
    labels = labels % 2
    found = evaluation.loss_surface(model, images, labels, epsilon=0.2, points=5)
    away = np.where(labels[:, None] == 1, -1, 1) * np.sign(weights[:, 1] - weights[:, 0])
    for i, distance in enumerate((0, 0.05, 0.1, 0.15, 0.2)):
        logits = (images.reshape(5, -1) + distance * away) @ weights
        np.testing.assert_allclose(found[:, i, 0], cross_entropy(logits, labels), rtol=1e-4)


def test_random_axis_of_a_linear_classifier_and_the_plane_between():
    """The logits' difference is affine over the plane, and the loss gives it back."""
    model, weights = linear()
    images, labels = toys.batch(5)
    labels = labels % 2
    found = evaluation.loss_surface(model, images, labels, epsilon=0.2, points=4)
    lead = np.log(np.expm1(found.astype(np.float64)))  # loss = log(1 + exp(wrong - right))
    along, aside = lead[:, 1:2, :1] - lead[:, :1, :1], lead[:, :1, 1:2] - lead[:, :1, :1]
    steps = np.arange(4)
    expected = lead[:, :1, :1] + along * steps[:, None] + aside * steps
    np.testing.assert_allclose(lead, expected, atol=1e-3)
    size = np.abs(weights[:, 1] - weights[:, 0]).sum()
    np.testing.assert_allclose(along.ravel(), 0.2 / 3 * size, rtol=1e-3)
    assert (np.abs(aside) < np.abs(along)).all()  # no direction of that length rises faster
    assert (np.abs(aside) > 1e-3).any()


def test_points_are_not_cut_to_the_range_of_pixels():
    """Then the loss of a linear classifier on white images would stop rising."""
    model, weights = linear()
    white = np.ones((1, *toys.IMAGE_SHAPE), np.float32)
    found = evaluation.loss_surface(model, white, np.int32([0]), epsilon=0.5, points=2)
    away = np.sign(weights[:, 1] - weights[:, 0])
    logits = (1 + 0.5 * away)[None] @ weights
    np.testing.assert_allclose(found[0, 1, 0], cross_entropy(logits, [0])[0], rtol=1e-4)


def test_distances_are_evenly_spaced_up_to_epsilon():
    model = toys.classifier()
    images, labels = toys.batch(3)
    fine = evaluation.loss_surface(model, images, labels, epsilon=0.2, points=5)
    coarse = evaluation.loss_surface(model, images, labels, epsilon=0.2, points=3)
    near = evaluation.loss_surface(model, images, labels, epsilon=0.1, points=3)
    np.testing.assert_allclose(fine[:, ::2, ::2], coarse, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(fine[:, :3, :3], near, rtol=1e-4, atol=1e-5)


# Directions


@pytest.fixture
def directions(monkeypatch):
    """The two axes, read from the points at which the losses are asked for."""

    def read(model, images, labels, seed=0):
        shown = []

        def losses(classifier, points, labels):
            shown.append(np.array(points))
            return np.zeros(len(points), np.float32)

        monkeypatch.setattr(surface, "_losses", losses)
        evaluation.loss_surface(model, images, labels, epsilon=0.5, points=2, seed=seed)
        image, aside, along, corner = shown
        np.testing.assert_array_equal(image, images)
        np.testing.assert_allclose(corner - aside, along - image, atol=1e-6)
        return [((end - image) / 0.5).reshape(len(images), -1) for end in (along, aside)]

    return read


@pytest.mark.parametrize("unread", [0, 1, 40, PIXELS - 1, PIXELS])
@pytest.mark.parametrize("seed", [0, 1])
def test_random_signs_are_orthogonal_to_the_adversarial_ones(directions, unread, seed):
    model, _ = linear(3, unread)
    images, labels = toys.batch(8)
    images = np.round(images * 4) / 4  # so that image + sign / 2 is exact
    adversarial, random = directions(model, images, labels, seed)
    assert set(np.unique(adversarial)) <= {-1, 0, 1}
    assert ((adversarial == 0).sum(axis=1) == unread).all()
    assert set(np.unique(random)) == {-1, 1}
    products = (adversarial * random).sum(axis=1)
    assert (np.abs(products) <= 1).all()
    assert (products % 2 == (PIXELS - unread) % 2).all()  # of an even number of signs it is 0


def test_random_directions_are_a_function_of_the_seed(directions):
    model = toys.classifier()
    images, labels = toys.batch(4)
    adversarial, random = directions(model, images, labels, seed=5)
    again = directions(model, images, labels, seed=5)
    other = directions(model, images, labels, seed=6)
    np.testing.assert_array_equal(random, again[1])
    np.testing.assert_array_equal(adversarial, other[0])
    changed = (random != other[1]).mean(axis=1)
    assert ((changed > 0.2) & (changed < 0.8)).all()


def test_each_image_has_a_random_direction_of_its_own(directions):
    images = np.full((3, *toys.IMAGE_SHAPE), 0.5, np.float32)
    _, random = directions(toys.classifier(), images, np.zeros(3, np.int32))
    assert (random[0] != random[1]).any() and (random[1] != random[2]).any()


# Bad input


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"epsilon": -0.1}, "epsilon"),
        ({"epsilon": 8}, "did you mean 8/255"),
        ({"epsilon": math.nan}, "epsilon"),
        ({"points": 1}, "points"),
        ({"points": 2.5}, "points"),
    ],
)
def test_bad_options(options, message):
    images, labels = toys.batch(2)
    with pytest.raises(ValueError, match=message) as error:
        evaluation.loss_surface(toys.classifier(), images, labels, **{"epsilon": 0.1, **options})
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda x, y: (255 * x, y), r"\[0, 1\]"),
        (lambda x, y: (x, y + 3), r"0\.\.2"),
        (lambda x, y: (x, y[:2]), "differ in number"),
    ],
)
def test_bad_images_and_labels(change, message):
    with pytest.raises(ValueError, match=message) as error:
        evaluation.loss_surface(toys.classifier(), *change(*toys.batch(4)), epsilon=0.1)
    assert "\n" not in str(error.value)
