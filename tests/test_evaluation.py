import dataclasses

import keras
import matplotlib.figure
import numpy as np
import pytest
import toys
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.text import Text

from jarn_tf import JARN, Defense, evaluation
from jarn_tf.evaluation import Attack, curves
from jarn_tf.evaluation.masking import measurements


@pytest.fixture
def linear(rng):
    """A two-class model w, and 7 images that it gets right on both sides of its border."""
    kernel = rng.normal(0, 1, (np.prod(toys.IMAGE_SHAPE), 2)).astype(np.float32)
    images, _ = toys.batch(7)
    logits = images.reshape(7, -1) @ kernel
    lead = np.sort(logits[:, 0] - logits[:, 1])
    bias = np.float32([0, lead[3:5].mean()])  # between two images: on one of them rounding decides
    labels = (logits + bias).argmax(axis=1)
    labels[:2] = 1 - labels[:2]  # two wrong
    return toys.linear_classifier(kernel, bias), images, labels.astype(np.int32)


# Robustness


@pytest.mark.parametrize("batch_size", [1, 3, 7, 500])
def test_every_image_counts_once(linear, batch_size):
    model, images, labels = linear
    attacks = [Attack("clean", 0.0), Attack("fgsm", 0.01), Attack("pgd4", 0.02, random_start=False)]
    rows = evaluation.robustness(model, images, labels, attacks, batch_size, progress=False)
    assert [r["name"] for r in rows] == ["clean", "fgsm", "pgd4"]
    assert rows[0]["accuracy"] == pytest.approx(5 / 7)
    # FGSM and PGD reach a linear model's optimum: the margin falls by epsilon * |w|_1, but where
    # pixels are cut to [0, 1].
    kernel, bias = model.get_weights()
    away = np.where(labels[:, None] == 1, -1, 1) * np.sign(kernel[:, 1] - kernel[:, 0])
    for row, epsilon in ((rows[1], 0.01), (rows[2], 0.02)):
        adversarial = np.clip(images.reshape(7, -1) + epsilon * away, 0, 1)
        right = (adversarial @ kernel + bias).argmax(axis=1) == labels
        assert row["accuracy"] == pytest.approx(right.mean())
        assert row["epsilon"] == epsilon


def test_clean_accuracy_is_keras_s_and_that_of_epsilon_0(digits_classifier, digits):
    classifier = keras.models.clone_model(digits_classifier)
    classifier.set_weights(digits_classifier.get_weights())
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    classifier.compile(loss=loss, metrics=["accuracy"])
    expected = classifier.evaluate(digits.test.floats, digits.test.labels, verbose=0)[1]
    attacks = [Attack("clean", 0.0), Attack("fgsm", 0.0), Attack("pgd2_margin", 0.0)]
    rows = evaluation.robustness(
        digits_classifier, digits.test.floats, digits.test.labels, attacks, 100, progress=False
    )
    for row in rows:
        assert row["accuracy"] == pytest.approx(expected), row["name"]


def test_worst_case_is_right_under_every_attack_of_its_radius(digits_classifier, digits):
    images, labels = digits.test.floats, digits.test.labels
    attacks = [
        Attack("pgd1", 0.08, step_size=0.02, seed=1),
        Attack("pgd1", 0.08, step_size=0.02, seed=2),
        Attack("fgsm", 0.04),
    ]
    right = [
        digits_classifier(a(digits_classifier, images, labels)).numpy().argmax(axis=1) == labels
        for a in attacks
    ]
    rows = evaluation.robustness(digits_classifier, images, labels, attacks, progress=False)
    assert [r["accuracy"] for r in rows[:3]] == [r.mean() for r in right]
    (worst,) = rows[3:]
    assert worst["name"] == "worst_case"
    assert worst["epsilon"] == 0.08
    assert worst["accuracy"] == (right[0] & right[1]).mean()
    assert worst["accuracy"] < min(right[0].mean(), right[1].mean())  # each finds its own


def test_worst_cases_are_told_apart_by_norm(digits_classifier, digits, tmp_path):
    images, labels = digits.test.floats[:50], digits.test.labels[:50]
    pairs = [Attack(name, 0.05, norm=norm) for norm in ("linf", "l2") for name in ("fgsm", "pgd3")]
    rows = evaluation.robustness(
        digits_classifier, images, labels, pairs, progress=False, save_to=tmp_path
    )
    assert [row["norm"] for row in rows] == ["linf", "linf", "l2", "l2", "linf", "l2"]
    linf, l2 = rows[4:]
    assert linf["name"] == l2["name"] == "worst_case"
    assert linf["accuracy"] < l2["accuracy"]  # the L2 ball lies in the other
    for name, row in (("epsilon_0.05.npz", linf), ("epsilon_0.05_l2.npz", l2)):
        assert np.load(tmp_path / name)["right"].mean() == row["accuracy"]


@pytest.mark.parametrize(
    ("name", "steps", "loss"),
    [
        ("clean", 0, None),
        ("fgsm", 1, "cross_entropy"),
        ("pgd7", 7, "cross_entropy"),
        ("pgd40_margin", 40, "margin"),
    ],
)
def test_names_of_attacks(name, steps, loss):
    attack = Attack(name, 0.3)
    assert attack.steps == steps
    assert attack.row().get("loss") == loss


@pytest.mark.parametrize("name", ["pgd", "pgd0", "PGD40", "pgd-5", "cw", "pgd40_dlr", "", "fgsm2"])
def test_unknown_attack_names(name):
    with pytest.raises(ValueError, match="Unknown attack"):
        Attack(name, 0.3)


@pytest.mark.parametrize("change", [{"epsilon": -1}, {"epsilon": 8}, {"restarts": 0}])
def test_attack_settings_out_of_range(change):
    with pytest.raises(ValueError, match=next(iter(change))):
        dataclasses.replace(Attack("pgd5", 0.3), **change)


# Correlation of images and Jacobians


def sum_of_squares_classifier():
    """The first logit is |x|^2 / 2, whose gradient is the image itself."""
    inputs = keras.Input(toys.IMAGE_SHAPE)
    flat = keras.layers.Flatten()(inputs)
    half = keras.ops.sum(flat * flat, axis=1, keepdims=True) / 2
    return keras.Model(inputs, keras.ops.concatenate([half, 0 * half], axis=1))


def test_correlation_is_1_where_the_jacobian_is_the_image():
    images, _ = toys.batch(5)
    labels = np.zeros(5, np.int32)
    correlation = evaluation.jacobian_image_correlation(
        sum_of_squares_classifier(), images, labels, "logit", batch_size=2
    )
    assert correlation == pytest.approx(1, abs=1e-6)


def test_correlation_is_0_where_the_jacobian_is_constant():
    images, labels = toys.batch(5)
    kernel = np.ones((np.prod(toys.IMAGE_SHAPE), 3), np.float32) * [1, -2, 3]
    model = toys.linear_classifier(kernel)
    correlation = evaluation.jacobian_image_correlation(model, images, labels)
    assert correlation == pytest.approx(0, abs=1e-6)
    blank = np.zeros_like(images)
    model = sum_of_squares_classifier()
    assert evaluation.jacobian_image_correlation(model, blank, np.zeros(5, np.int32)) == 0


@pytest.mark.parametrize("of", ["logit", "loss"])
def test_correlation_of_a_linear_model(rng, of):
    """Up to its sign, each row of J is a fixed direction of two classes."""
    kernel = rng.normal(0, 0.1, (np.prod(toys.IMAGE_SHAPE), 2)).astype(np.float32)
    images, _ = toys.batch(5)
    labels = np.zeros(5, np.int32)
    direction = kernel[:, 0] if of == "logit" else kernel[:, 1] - kernel[:, 0]
    expected = np.mean([abs(np.corrcoef(x.ravel(), direction)[0, 1]) for x in images])
    model = toys.linear_classifier(kernel)
    actual = evaluation.jacobian_image_correlation(model, images, labels, of)
    assert actual == pytest.approx(expected, rel=1e-4)


# Pictures


def pictures_of(model, images, labels):
    jacobians = evaluation.jacobians_of(model, images, labels)
    return evaluation.jacobian_pictures(model, images, jacobians)


@pytest.mark.parametrize("standardize", [False, True])
def test_pictures_are_in_the_range_of_pixels(standardize):
    images, labels = toys.batch(5)
    jarn = JARN(toys.classifier(), toys.adaptor(), toys.discriminator(), standardize=standardize)
    pictures = pictures_of(jarn, images, labels)
    assert list(pictures) == ["input", "jacobian", "adapted_jacobian"]
    plain = pictures_of(Defense(toys.classifier()), images, labels)
    assert list(plain) == ["input", "jacobian"]
    for picture in [*pictures.values(), *plain.values()]:
        assert picture.shape == images.shape
        assert picture.min() >= 0 and picture.max() <= 1
    np.testing.assert_array_equal(pictures["input"], images)


def test_a_jacobian_is_drawn_in_units_of_its_own_root_mean_square():
    images, _ = toys.batch(3)
    kernel = np.zeros((np.prod(toys.IMAGE_SHAPE), 2), np.float32)
    kernel[5], kernel[7] = [-8, 8], [1, -1]  # two pixels count, as 8 : -1
    model = Defense(toys.linear_classifier(kernel))
    picture = pictures_of(model, images, np.zeros(3, np.int32))["jacobian"]
    flat = picture.reshape(3, -1)
    unit = np.sqrt((8**2 + 1**2) / len(kernel))
    assert 8 / unit > 3
    np.testing.assert_allclose(flat[:, 5], 1)  # the loss of class 0 grows with pixel 5
    np.testing.assert_allclose(flat[:, 7], 0.5 - 1 / (6 * unit), rtol=1e-5)
    np.testing.assert_allclose(np.delete(flat, [5, 7], axis=1), 0.5)


@pytest.mark.parametrize("size", [1e-25, 1.0, 1e5])
def test_a_picture_of_a_jacobian_does_not_depend_on_its_size(rng, size):
    jacobians = rng.normal(size=(2, 5, 5, 1)).astype(np.float32)
    expected = evaluation.signed_to_pixels(jacobians)
    scaled = evaluation.signed_to_pixels(np.float32(size) * jacobians)
    np.testing.assert_allclose(scaled, expected, rtol=1e-5)
    assert (evaluation.signed_to_pixels(np.zeros_like(jacobians)) == 0.5).all()


@pytest.mark.parametrize("channels", [1, 3])
def test_a_board_has_a_column_an_image_and_its_pictures_below_one_another(channels):
    """5 images of one brightness each, of which 3 go side by side: two blocks of two rows."""
    shades = np.linspace(0, 0.8, 5)
    images = np.broadcast_to(shades[:, None, None, None], (5, 10, 8, channels))
    pictures = {"input": images, "jacobian": images + 0.1}
    board = evaluation.jacobian_board(pictures, columns=3, zoom=2)
    assert board.shape[-1] == 3 and board.shape[0] > 4 * 20
    right = board[:, -3 * (2 * 8 + 2) :]  # without the names; framed pictures
    assert (board[:, : -right.shape[1]] < 0.5).any()  # the names
    lines = right[:, [9, 27, 45], 0]  # through the middle of each column
    blocks = [lines[:44], lines[-44:]]  # each two rows of 20 pixels in their frames
    for block, first in zip(blocks, (0, 3)):
        for row, brighter in ((11, 0), (33, 0.1)):
            expected = (*shades[first : first + 3] + brighter, 1.0)[:3]
            np.testing.assert_allclose(block[row], expected, atol=1 / 255)


@pytest.mark.parametrize("channels", [1, 3])
def test_figure_is_a_png(tmp_path, channels):
    rows = {"input": np.full((3, 4, 4, channels), 0.5), "jacobian": np.ones((3, 4, 4, channels))}
    evaluation.jacobian_figure(tmp_path / "f.png", rows, np.arange(3), "title")
    assert (tmp_path / "f.png").read_bytes().startswith(b"\x89PNG\r\n\x1a\n")


def test_names_at_the_ends_of_lines_do_not_cover_one_another():
    figure = matplotlib.figure.Figure((6, 4))
    canvas, axis = FigureCanvasAgg(figure), figure.subplots()
    axis.set_ylim(0, 100)
    names = ["a", "b\nof two lines", "c", "d"]
    curves.label_ends(axis, {name: (1.0, y, "k") for name, y in zip(names, (0, 0, 2, 99))})
    canvas.draw()
    boxes = [Text.get_window_extent(text) for text in axis.texts]  # an annotation's has its line
    for i, box in enumerate(boxes):
        assert not any(box.overlaps(other) for other in boxes[:i])
        assert box.x0 > axis.get_window_extent().x1


def test_a_verdict_figure_takes_any_title(tmp_path):
    accuracies = {measurements.PGD: {0.0: 0.9, 0.1: 0.5, 1.0: 0.0}, "other": {0.0: 0.9, 0.1: 0.2}}
    evaluation.verdict_figure(tmp_path / "f.png", accuracies, 0.1, "folder:$\\frac$")
    assert (tmp_path / "f.png").read_bytes().startswith(b"\x89PNG\r\n\x1a\n")
