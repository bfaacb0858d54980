import math

import keras
import numpy as np
import pytest
import toys

from jarn_tf import evaluation

PIXELS = int(np.prod(toys.IMAGE_SHAPE))


def kernel(classes, seed=0):
    return np.random.default_rng(seed).normal(0, 1, (PIXELS, classes)).astype(np.float32)


def flat(images):
    return images.reshape(len(images), -1).astype(np.float64)


def of_saliency(model, images, labels=None, **options):
    labels = np.zeros(len(images), np.int32) if labels is None else labels
    return evaluation.saliency(model, images, labels, **options)


# Alignment


def test_alignment_of_a_linear_classifier_is_the_projection_on_its_normal():
    images, _ = toys.batch(9)
    weights = kernel(2)
    alignments, _ = evaluation.alignment_and_robustness(toys.linear_classifier(weights), images)
    normal = weights[:, 1].astype(np.float64) - weights[:, 0]
    expected = np.abs(flat(images) @ normal) / np.sqrt((normal**2).sum())
    np.testing.assert_allclose(alignments, expected, rtol=1e-5)


def test_alignment_is_of_the_two_largest_logits():
    """The third class is far below, its gradient is the image itself."""
    images, _ = toys.batch(1)
    weights = kernel(3)
    weights[:, 2] = images.ravel()
    bias = np.float32([0, 0, -1000])
    alignments, _ = evaluation.alignment_and_robustness(
        toys.linear_classifier(weights, bias), images
    )
    normal = weights[:, 1].astype(np.float64) - weights[:, 0]
    expected = abs(flat(images)[0] @ normal) / np.sqrt((normal**2).sum())
    np.testing.assert_allclose(alignments, expected, rtol=1e-5)


def test_alignment_is_at_most_the_norm_of_the_image():
    images, _ = toys.batch(50)
    alignments, _ = evaluation.alignment_and_robustness(toys.classifier(), images)
    norms = np.sqrt((flat(images) ** 2).sum(axis=1))
    assert (alignments > 0).all()
    assert (alignments < norms).all()


@pytest.mark.parametrize("scale", [0.01, 1, 30])
def test_alignment_is_the_norm_where_the_gradient_is_parallel_to_the_image(scale):
    images, _ = toys.batch(1)
    weights = scale * np.stack([images.ravel(), -images.ravel()], axis=1)
    alignments, _ = evaluation.alignment_and_robustness(toys.linear_classifier(weights), images)
    np.testing.assert_allclose(alignments, np.linalg.norm(flat(images)), rtol=1e-5)


def test_alignment_of_a_curved_classifier_by_finite_differences():
    model = toys.classifier()
    images, _ = toys.batch(4)
    two = np.sort(np.argsort(model(images).numpy(), axis=1)[:, -2:], axis=1)

    def difference(points, pair):
        logits = model(points.astype(np.float32)).numpy().astype(np.float64)
        return logits[:, pair[1]] - logits[:, pair[0]]

    step = 1e-2
    moves = step * np.eye(PIXELS).reshape(PIXELS, *toys.IMAGE_SHAPE)
    expected = []
    for image, pair in zip(images, two):
        gradient = (difference(image + moves, pair) - difference(image - moves, pair)) / (2 * step)
        expected.append(abs(image.ravel() @ gradient) / np.linalg.norm(gradient))
    alignments, _ = evaluation.alignment_and_robustness(model, images)
    np.testing.assert_allclose(alignments, expected, rtol=5e-3, atol=1e-3)


# Linearised robustness


@pytest.mark.parametrize("classes", [2, 3, 7])
def test_robustness_is_the_distance_to_the_border_of_a_linear_classifier(classes, rng):
    """Just short of it no way leaves the class; just beyond it the straight way to one does."""
    images, _ = toys.batch(6)
    weights = kernel(classes)
    _, distances = evaluation.alignment_and_robustness(toys.linear_classifier(weights), images)
    weights = weights.astype(np.float64)
    for point, distance in zip(flat(images), distances):
        top = (point @ weights).argmax()
        straight = np.delete(weights - weights[:, [top]], top, axis=1).T
        ways = np.concatenate([straight, rng.normal(size=(200, PIXELS))])
        ways /= np.linalg.norm(ways, axis=1, keepdims=True)
        short, beyond = (
            ((point + factor * distance * ways) @ weights).argmax(axis=1)
            for factor in (0.999, 1.001)
        )
        assert (short == top).all()
        assert (beyond[: classes - 1] != top).any()


def test_the_nearest_class_need_not_be_the_second():
    """The second logit is 1 below on a slope of 0.1, the third 2 below on one of 10."""
    weights = np.zeros((PIXELS, 3), np.float32)
    weights[0, 1], weights[1, 2] = 0.1, 10
    model = toys.linear_classifier(weights, np.float32([2, 1, 0]))
    blank = np.zeros((1, *toys.IMAGE_SHAPE), np.float32)
    _, distances = evaluation.alignment_and_robustness(model, blank)
    np.testing.assert_allclose(distances, 0.2, rtol=1e-6)


# Over all images


def test_medians_over_all_images():
    images, labels = toys.batch(7)
    model = toys.linear_classifier(kernel(3))
    alignments, distances = evaluation.alignment_and_robustness(model, images)
    found = evaluation.saliency(model, images, labels)
    assert found["alignment"] == pytest.approx(sorted(alignments)[3])
    assert found["linearised_robustness"] == pytest.approx(sorted(distances)[3])


def flat_numbers(found):
    correlation = found["jacobian_image_correlation"]
    return {**found, "jacobian_image_correlation": 0, **correlation}


@pytest.mark.parametrize("batch_size", [1, 3, 7, 10])
def test_saliency_does_not_depend_on_the_batch_size(batch_size):
    images, labels = toys.batch(10)
    model = dead_for_dark_images()
    expected = flat_numbers(evaluation.saliency(model, images, labels))
    actual = flat_numbers(evaluation.saliency(model, images, labels, batch_size=batch_size))
    assert actual == pytest.approx(expected, rel=1e-4)


def test_correlations_of_loss_and_of_logit_are_told_apart():
    """One class's row of J is the image, the other's is not; the loss has their difference."""
    images, _ = toys.batch(1)
    weights = 0.1 * kernel(2)
    weights[:, 0] = 0.1 * images.ravel()
    found = of_saliency(toys.linear_classifier(weights), images)["jacobian_image_correlation"]
    direction = weights[:, 1] - weights[:, 0]
    assert found["logit"] == pytest.approx(1, abs=1e-5)
    expected = abs(np.corrcoef(images.ravel(), direction)[0, 1])
    assert found["loss"] == pytest.approx(expected, rel=1e-4)
    assert expected < 0.9


# Blind gradients


def test_a_constant_classifier_is_infinitely_robust_to_first_order():
    images, labels = toys.batch(5)
    model = toys.linear_classifier(np.zeros((PIXELS, 3), np.float32), np.float32([0, 2, 1]))
    alignments, distances = evaluation.alignment_and_robustness(model, images)
    assert (alignments == 0).all()
    assert (distances == np.inf).all()
    found = evaluation.saliency(model, images, labels)
    assert found == {
        "alignment": 0.0,
        "linearised_robustness": None,
        "jacobian_image_correlation": {"loss": 0.0, "logit": 0.0},
        "zero_gradients": 1.0,
        "zero_gradient_entries": 1.0,
    }


def dead_for_dark_images():
    """Its one ReLU is off for images whose mean pixel is below 0.5."""
    model = keras.Sequential(
        [
            keras.Input(toys.IMAGE_SHAPE),
            keras.layers.Flatten(),
            keras.layers.Dense(1, activation="relu"),
            keras.layers.Dense(toys.CLASSES),
        ]
    )
    mean = np.full((PIXELS, 1), 1 / PIXELS, np.float32)
    rows = np.float32([[3, -2, 1]])
    model.set_weights([mean, np.float32([-0.5]), rows, np.float32([0, 0.1, 0.2])])
    return model


@pytest.mark.parametrize("bright", [1, 3, 4])
def test_share_of_images_behind_a_dead_relu(bright):
    images = np.full((4, *toys.IMAGE_SHAPE), 0.25, np.float32)
    images[:bright] = 0.75
    found = of_saliency(dead_for_dark_images(), images)
    assert found["zero_gradients"] == pytest.approx(1 - bright / 4)
    assert found["zero_gradient_entries"] == pytest.approx(1 - bright / 4)


def test_robustness_is_a_number_where_half_of_the_images_have_a_gradient():
    """The median of an odd number of images, most of them in front of the dead ReLU."""
    images = np.full((5, *toys.IMAGE_SHAPE), 0.75, np.float32)
    images[:2] = 0.25
    assert math.isfinite(of_saliency(dead_for_dark_images(), images)["linearised_robustness"])
    images[:3] = 0.25
    assert of_saliency(dead_for_dark_images(), images)["linearised_robustness"] is None


def test_share_of_pixels_that_the_classifier_does_not_read():
    images, labels = toys.batch(6)
    weights = kernel(3)
    weights[: PIXELS // 4] = 0
    found = evaluation.saliency(toys.linear_classifier(weights), images, labels)
    assert found["zero_gradient_entries"] == pytest.approx(0.25)
    assert found["zero_gradients"] == 0


def test_a_saturated_loss_has_no_gradient_but_the_logits_have():
    """Masked gradients: attacks on the loss are blind, the distance to the border is not."""
    images, _ = toys.batch(3)
    model = toys.linear_classifier(kernel(2), np.float32([1000, 0]))
    found = of_saliency(model, images)
    assert found["zero_gradients"] == 1
    assert found["jacobian_image_correlation"]["loss"] == 0
    assert found["jacobian_image_correlation"]["logit"] > 0
    assert found["linearised_robustness"] > 0


# Bad input


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda x, y: (255 * x, y), r"\[0, 1\]"),
        (lambda x, y: ((255 * x).astype(np.int32), y), "floating point"),
        (lambda x, y: (x, y + 3), r"0\.\.2"),
        (lambda x, y: (x, y[:2]), "differ in number"),
    ],
)
def test_bad_images_and_labels(change, message):
    with pytest.raises(ValueError, match=message) as error:
        evaluation.saliency(toys.classifier(), *change(*toys.batch(4)))
    assert "\n" not in str(error.value)
