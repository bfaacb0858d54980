"""APGD, FAB, Square and their ensemble."""

import functools
import itertools
import sys
from unittest import mock

import keras
import numpy as np
import pytest
import scipy.optimize
import tensorflow as tf
import toys

from jarn_tf import attacks, losses
from jarn_tf.attacks.apgd import _checkpoint, _interval_lengths, _State
from jarn_tf.attacks.autoattack import VERSIONS
from jarn_tf.attacks.fab import project_on_hyperplane
from jarn_tf.attacks.linf import LinfBall
from jarn_tf.attacks.square import _sides, _with_square
from jarn_tf.attacks.square import _State as SquareState
from jarn_tf.attacks.targets import ranked_wrong_classes

PIXELS = int(np.prod(toys.IMAGE_SHAPE))
ALL = {
    "apgd_ce": attacks.apgd,
    "apgd_dlr": lambda *a, **k: attacks.apgd(*a, **k, loss="dlr"),
    "apgd_margin": lambda *a, **k: attacks.apgd(*a, **k, loss="margin"),
    "apgd_t": lambda *a, **k: attacks.apgd(*a, **k, loss="dlr", targets=9),
    "fab_t": attacks.fab,
    "square": lambda *a, **k: attacks.square(*a, **k, queries=300),
    "autoattack": lambda *a, **k: short_autoattack(*a, **k),
}
every_attack = pytest.mark.parametrize("attack", ALL.values(), ids=ALL)


def short_autoattack(*arguments, **options):
    """With the search of `ALL`; the whole ensemble is compared with its members below."""
    members = VERSIONS["standard"] | {"square": (attacks.square, {"queries": 300})}
    with mock.patch.dict(VERSIONS, standard=members):
        return attacks.autoattack(*arguments, **options)


@keras.saving.register_keras_serializable("test_autoattack")
class Rounded(keras.layers.Layer):
    """Pixels rounded to 0 or 1: TensorFlow has no gradient there."""

    def call(self, images):
        return keras.ops.round(images)


@functools.cache  # an attack is compiled once a model
def linear(classes=5, seed=0, scales=(1.0,)):
    """A linear model, images, and the labels that it gives them; change none of them."""
    rng = np.random.default_rng(seed)
    kernel = (np.float32(scales) * rng.normal(0, 1, (PIXELS, classes))).astype(np.float32)
    model = toys.linear_classifier(kernel, rng.normal(0, 1, classes).astype(np.float32))
    images = rng.uniform(0, 1, (24, *toys.IMAGE_SHAPE)).astype(np.float32)
    return model, images, predicted(model, images)


def predicted(model, images):
    return np.asarray(model(images)).argmax(axis=-1).astype(np.int32)


def distances_to_other_classes(model, images, labels):
    """Of a linear model: for each image and class, the L-infinity radius that reaches the class.

    Bisection over what a radius can do at most to the difference of two logits.
    """
    kernel, bias = (w.astype(np.float64) for w in model.get_weights())
    flat = images.reshape(len(images), -1).astype(np.float64)
    found = np.full((len(images), kernel.shape[1]), np.inf)
    for i, other in itertools.product(range(len(images)), range(kernel.shape[1])):
        if other == labels[i]:
            continue
        w = kernel[:, other] - kernel[:, labels[i]]
        low, high = 0.0, 1.0
        for _ in range(50):
            radius = (low + high) / 2
            best = np.where(w > 0, np.minimum(flat[i] + radius, 1), np.maximum(flat[i] - radius, 0))
            lead = best @ w + bias[other] - bias[labels[i]]
            low, high = (low, radius) if lead > 0 else (radius, high)
        found[i, other] = high if high < 1 else np.inf
    return found


def in_ball(images, adversarial, epsilon):
    adversarial = np.asarray(adversarial)
    assert adversarial.dtype == np.float32
    assert adversarial.min() >= 0 and adversarial.max() <= 1
    exact = np.abs(adversarial.astype(np.float64) - images.astype(np.float64))
    assert exact.max() <= epsilon


# All of them


toy = functools.cache(toys.classifier)


@every_attack
@pytest.mark.parametrize("epsilon", [8 / 255, 0.1, 0.3])
def test_images_stay_in_the_ball_to_the_last_bit(attack, epsilon):
    images, labels = toys.batch(17)
    in_ball(images, attack(toy(), images, labels, epsilon=epsilon), epsilon)


@every_attack
def test_epsilon_0_is_the_image_itself(attack):
    images, labels = toys.batch(5)
    adversarial = attack(toy(), images, labels, epsilon=0.0)
    np.testing.assert_array_equal(adversarial, images)


@every_attack
def test_misclassified_or_the_image_itself(attack, digits_classifier, digits):
    images, labels = digits.test.floats[:40], digits.test.labels[:40]
    adversarial = attack(digits_classifier, images, labels, epsilon=0.1)
    changed = (adversarial != images).any(axis=(1, 2, 3))
    assert changed.any()
    for order in (slice(None), slice(None, None, -1)):  # in other company too
        again = predicted(digits_classifier, adversarial[order])
        assert (again != labels[order])[changed[order]].all()


@every_attack
def test_a_function_of_the_seed(attack):
    model, images, labels = linear()
    first, same, other = (
        attack(model, images, labels, epsilon=0.05, seed=seed) for seed in (1, 1, 2)
    )
    np.testing.assert_array_equal(first, same)
    assert attack is attacks.fab or (first != other).any()  # FAB's first start is the image


@every_attack
def test_one_image_and_one_hot_labels(attack):
    model, images, labels = linear()
    one = attack(model, images[:1], labels[:1], epsilon=0.3)
    assert predicted(model, one) != labels[0]
    hot = attack(model, images, np.eye(5, dtype=np.float32)[labels], epsilon=0.05)
    np.testing.assert_array_equal(hot, attack(model, images, labels, epsilon=0.05))


@every_attack
@pytest.mark.parametrize("classes", [2, 3, 4])
def test_few_classes(attack, classes):
    """A linear model falls where its margin, plus epsilon times the L1 norm, changes sign."""
    model, images, labels = linear(classes, seed=classes)
    reach = distances_to_other_classes(model, images, labels).min(axis=1)
    epsilon = float(np.median(reach))
    broken = predicted(model, attack(model, images, labels, epsilon=epsilon)) != labels
    assert not broken[reach > epsilon].any()
    assert broken[reach < 0.5 * epsilon].all()


@every_attack
def test_bad_input(attack):
    model, images, labels = linear()
    ends = {
        "softmax": keras.layers.Softmax(),
        "activation": keras.layers.Activation("softmax"),
        "sigmoid": keras.layers.Dense(3, activation="sigmoid"),
    }
    for last in ends.values():
        squashed = keras.Sequential([keras.Input(toys.IMAGE_SHAPE), model, last])
        with pytest.raises(ValueError, match="logits. Received one that returns probabilities"):
            attack(squashed, images, labels % 3, epsilon=0.1)
    inputs = keras.Input(toys.IMAGE_SHAPE)
    saturated = keras.Model(inputs, keras.ops.softmax(1e4 * model(inputs)))
    hidden = [
        keras.Sequential([keras.Input(toys.IMAGE_SHAPE), model, keras.layers.Lambda(function)])
        for function in (tf.nn.softmax, tf.nn.sigmoid)
    ]
    many = np.concatenate([images] * 3), np.concatenate([labels] * 3)
    for squashed in (saturated, *hidden):
        with pytest.raises(ValueError, match="logits. Received one that returns probabilities"):
            attack(squashed, *many, epsilon=0.1)
    with pytest.raises(ValueError, match="one-hot rows. Received rows without exactly one 1"):
        attack(model, images, np.full((len(images), 5), 0.2, np.float32), epsilon=0.1)
    not_finite = toys.linear_classifier(np.full((PIXELS, 5), np.nan, np.float32))
    with pytest.raises(ValueError, match="not finite"):
        attack(not_finite, images, labels, epsilon=0.1)
    with pytest.raises(ValueError, match=r"images must lie in \[0, 1\]"):
        attack(model, images * 2, labels, epsilon=0.1)
    with pytest.raises(ValueError, match=r"labels must lie in 0\.\.4"):
        attack(model, images, labels + 5, epsilon=0.1)
    with pytest.raises(ValueError, match="did you mean 8/255"):
        attack(model, images, labels, epsilon=8)


@every_attack
def test_a_classifier_without_gradients_is_attacked_all_the_same(attack):
    """Rounded pixels: only where epsilon crosses 0.5 does anything change, and nobody fails."""
    model, images, _ = linear()
    rounded = keras.Sequential([keras.Input(toys.IMAGE_SHAPE), Rounded(), model])
    labels = predicted(rounded, images)
    adversarial = np.asarray(attack(rounded, images, labels, epsilon=0.3))
    in_ball(images, adversarial, 0.3)
    if attack in (ALL["square"], ALL["autoattack"]):
        assert (predicted(rounded, adversarial) != labels).all()


# Parts


def test_the_likeliest_wrong_classes_are_aimed_at_first():
    model, images, labels = linear()
    logits = np.array(model(images))
    ranked = ranked_wrong_classes(model, images, tf.constant(labels), 3)
    for i, (row, label) in enumerate(zip(logits, labels)):
        wrong = [k for k in np.argsort(row)[::-1] if k != label]
        assert ranked[:, i].tolist() == wrong[:3]


def test_squares_reach_every_pixel():
    images = np.full((300, *toys.IMAGE_SHAPE), 0.5, np.float32)
    state = SquareState(images, None, None, None, LinfBall(images - 0.1, images + 0.1))
    moved = np.abs(np.array(_with_square(state, tf.constant(2), (0, 0))) - 0.5) > 0.05
    assert moved.any(axis=0).all()
    assert (moved.sum(axis=(1, 2, 3)) == 2 * 2 * toys.IMAGE_SHAPE[-1]).all()


# APGD


def test_checkpoints_are_the_published_ones():
    """p_0 = 0, p_1 = 0.22, p_{j+1} = p_j + max(p_j - p_{j-1} - 0.03, 0.06) (Section 3)."""
    lengths = _interval_lengths(100)
    assert np.flatnonzero(lengths).tolist() == [22, 41, 57, 70, 80, 87, 93, 99]
    assert (np.cumsum(lengths[lengths > 0]) == np.flatnonzero(lengths)).all()


def test_a_checkpoint_halves_the_step_under_either_condition_of_the_paper():
    """1: at most 0.75 of the steps raised the loss. 2: neither step nor maximum has changed."""
    raised, halved, checked = zip(*itertools.product((3, 4), (False, True), (1.0, 0.5)))
    images = np.random.default_rng(0).uniform(0, 1, (8, *toys.IMAGE_SHAPE)).astype(np.float32)
    state = _State.at(images, np.zeros(8, np.int32), LinfBall(images, images))._replace(
        raised=np.float32(raised), halved=np.array(halved), checked=np.float32(checked),
        highest=np.ones(8, np.float32), step_size=np.ones(8, np.float32), best=images + 1,
    )  # fmt: skip
    expected = np.array(
        [r == 3 or (not h and c == 1.0) for r, h, c in zip(raised, halved, checked)]
    )
    after = _checkpoint(state, 4.0)
    np.testing.assert_array_equal(after.halved, expected)
    np.testing.assert_array_equal(after.step_size, np.where(expected, 0.5, 1))
    best = np.where(expected[:, None, None, None], state.best, state.points)
    np.testing.assert_array_equal(after.points, best)


@pytest.mark.parametrize("loss", ["cross_entropy", "dlr", "margin"])
def test_apgd_breaks_what_can_be_broken_of_a_linear_model(loss):
    model, images, labels = linear()
    reach = distances_to_other_classes(model, images, labels).min(axis=1)
    epsilon = float(np.median(reach))
    adversarial = attacks.apgd(model, images, labels, epsilon=epsilon, loss=loss, restarts=3)
    broken = predicted(model, adversarial) != labels
    assert not broken[reach > epsilon].any()
    assert broken[reach < 0.9 * epsilon].all()


@pytest.mark.parametrize("loss", ["dlr", "margin"])
def test_targets_are_tried_beyond_the_likeliest(loss):
    """Of a linear model the nearest class is found, though it is not the likeliest wrong one."""
    model, images, labels = linear(scales=(0.1, 0.2, 0.4, 1, 2))
    reach = distances_to_other_classes(model, images, labels)
    logits = np.array(model(images))
    logits[np.arange(len(labels)), labels] = -np.inf
    likeliest = logits.argmax(axis=1)
    nearest = reach.argmin(axis=1)
    rows = np.flatnonzero(likeliest != nearest)
    assert len(rows)
    for i in rows:
        epsilon = float((reach[i, nearest[i]] + reach[i, likeliest[i]]) / 2)
        one, all_of_them = (
            attacks.apgd(
                model, images[i : i + 1], labels[i : i + 1], epsilon=epsilon, loss=loss, targets=k
            )
            for k in (1, 4)
        )
        assert predicted(model, all_of_them) != labels[i]
        in_ball(images[i : i + 1], one, epsilon)


def test_apgd_withstands_no_scale_of_the_logits(digits_classifier, digits):
    """DLR and the margin do not change direction with the scale, and cross-entropy is blind."""
    images, labels = digits.test.floats[:60], digits.test.labels[:60]
    scaled = keras.Sequential(
        [keras.Input((28, 28, 1)), digits_classifier, keras.layers.Rescaling(1e4)]
    )
    right = {}
    for loss in ("cross_entropy", "dlr", "margin"):
        adversarial = attacks.apgd(scaled, images, labels, epsilon=0.2, loss=loss)
        right[loss] = (predicted(digits_classifier, adversarial) == labels).mean()
    assert right["dlr"] == right["margin"] == 0
    assert right["cross_entropy"] > 0.2


def test_apgd_is_at_least_as_strong_as_pgd(digits_classifier, digits):
    images, labels = digits.test.floats, digits.test.labels
    common = {"epsilon": 0.04, "loss": "margin", "seed": 3}
    pgd = attacks.pgd(digits_classifier, images, labels, steps=100, **common)
    apgd = attacks.apgd(digits_classifier, images, labels, steps=100, **common)
    right = [(predicted(digits_classifier, found) == labels).mean() for found in (apgd, pgd)]
    assert 0.1 < right[1] < 0.9
    assert right[0] <= right[1] + 0.01


@pytest.mark.parametrize("epsilon", [0.05, 0.1])
def test_apgd_breaks_more_than_steps_of_one_size(epsilon):
    """The reason for its schedule: steps of 2 epsilon overshoot, halved ones do not."""
    _, images, _ = linear()
    normal = keras.initializers.RandomNormal
    sharp = keras.Sequential(
        [
            keras.Input(toys.IMAGE_SHAPE),
            keras.layers.Flatten(),
            keras.layers.Dense(32, "tanh", kernel_initializer=normal(0, 10, seed=1)),
            keras.layers.Dense(5, kernel_initializer=normal(0, 1, seed=2)),
        ]
    )
    labels = predicted(sharp, images)
    common = {"epsilon": epsilon, "steps": 100, "loss": "margin"}
    of_one_size = attacks.pgd(sharp, images, labels, **common, step_size=2 * epsilon)
    halved = attacks.apgd(sharp, images, labels, **common)
    right = [(predicted(sharp, found) == labels).sum() for found in (halved, of_one_size)]
    assert 0 < right[0] < right[1]


@pytest.mark.parametrize("targets", [0, 9])
def test_apgd_says_what_is_climbed_where_dlr_is_not_defined(targets):
    needed = 4 if targets else 3
    assert attacks.apgd_loss("dlr", targets, needed) == "dlr"
    assert attacks.apgd_loss("dlr", targets, needed - 1) == "margin"
    assert attacks.apgd_loss("cross_entropy", 0, 2) == "cross_entropy"


# DLR


def numpy_dlr(z, y, t=None):
    """Eq. 6 and 7 of Croce & Hein, one image."""
    pi = np.sort(z)[::-1]
    if t is None:
        return -(z[y] - max(z[i] for i in range(len(z)) if i != y)) / (pi[0] - pi[2])
    return -(z[y] - z[t]) / (pi[0] - 0.5 * (pi[2] + pi[3]))


def test_dlr(rng):
    logits = rng.normal(0, 3, (20, 6))
    labels, targets = tf.constant(rng.integers(0, 6, (2, 20)))
    for factor in (1, 1e-3, 1e6):
        z = tf.constant(factor * logits)
        np.testing.assert_allclose(
            losses.difference_of_logits_ratio(labels, z),
            [numpy_dlr(z, y) for z, y in zip(logits, labels)],
            rtol=1e-6,
        )
        np.testing.assert_allclose(
            losses.targeted_difference_of_logits_ratio(labels, z, targets),
            [numpy_dlr(z, y, t) for z, y, t in zip(logits, labels, targets)],
            rtol=1e-6,
            atol=1e-12,
        )


def test_a_lead_within_rounding_is_not_misclassified():
    logits = tf.constant([[1e4, 1e4 + 4e-3, 0], [1, 1.1, 0], [1, 0.9, 0], [0, 0, 0], [0, 0, 0]])
    labels = tf.constant([0, 0, 0, 0, 2])
    assert losses.misclassified(labels, logits).numpy().tolist() == [
        False,
        True,
        False,
        False,
        True,
    ]


@every_attack
@pytest.mark.parametrize("what", ["ruled out", "offset"])
def test_huge_logits_that_play_no_part(attack, what):
    """A class masked by -1e9, or 1e4 added to every logit, makes a model no more robust."""
    model, images, labels = linear()
    kernel, bias = model.get_weights()
    if what == "offset":
        bias = bias + 1e4
    else:
        kernel = np.concatenate([kernel, np.zeros((PIXELS, 1), np.float32)], axis=1)
        bias = np.append(bias, -1e9)
    changed = toys.linear_classifier(kernel, bias.astype(np.float32))
    epsilon = float(distances_to_other_classes(model, images, labels).min(axis=1).max()) * 1.3
    adversarial = attack(changed, images, labels, epsilon=epsilon)
    assert (predicted(changed, adversarial) != labels).mean() > 0.9


@every_attack
@pytest.mark.parametrize("dtype", ["float64", "mixed_float16", "mixed_bfloat16"])
def test_classifiers_of_other_precision(attack, dtype):
    model, images, labels = linear()
    other = keras.Sequential(
        [
            keras.Input(toys.IMAGE_SHAPE),
            keras.layers.Flatten(dtype=dtype),
            keras.layers.Dense(5, dtype=dtype),
        ]
    )
    other.set_weights(model.get_weights())
    labels = predicted(other, images)
    adversarial = attack(other, images, labels, epsilon=0.3)
    in_ball(images, adversarial, 0.3)
    assert (predicted(other, adversarial) != labels).mean() > 0.8


# FAB


def test_projection_on_a_hyperplane_is_the_linear_program_s(rng):
    """min r over |delta| <= r, 0 <= x + delta <= 1, w (x + delta) = b, by scipy's solver."""
    n, shape = 12, (3, 3, 1)
    points = rng.uniform(0, 1, (n, *shape)).astype(np.float32)
    points[:4, 0] = 0
    points[2:6, 1] = 1
    normal = rng.normal(0, 1, (n, *shape)).astype(np.float32)
    normal[:, 2, 2] = 0
    target = rng.uniform(0, 1, (n, *shape))
    offset = (normal * target).sum(axis=(1, 2, 3)).astype(np.float32)
    steps = project_on_hyperplane(
        tf.constant(points), normal, offset, LinfBall.steepest(tf.constant(normal))
    ).numpy()
    assert (points + steps).min() >= -1e-6 and (points + steps).max() <= 1 + 1e-6
    np.testing.assert_allclose((normal * (points + steps)).sum(axis=(1, 2, 3)), offset, atol=1e-4)
    for i in range(n):
        x, w = points[i].ravel(), normal[i].ravel()
        eye, ones = np.eye(9), -np.ones((9, 1))
        best = scipy.optimize.linprog(
            np.r_[np.zeros(9), 1],
            A_ub=np.block([[eye, ones], [-eye, ones]]),
            b_ub=np.zeros(18),
            A_eq=np.r_[w, 0][None],
            b_eq=[offset[i] - w @ x],
            bounds=[*zip(-x, 1 - x), (0, 1)],
        )
        assert np.abs(steps[i]).max() == pytest.approx(best.fun, abs=1e-4)


def test_projection_where_the_hyperplane_is_out_of_reach():
    points = tf.constant([[[[0.25], [0.5]]]])
    normal = tf.constant([[[[1.0], [-2.0]]]])
    direction = LinfBall.steepest(normal)
    steps = project_on_hyperplane(points, normal, tf.constant([5.0]), direction)
    np.testing.assert_allclose(np.ravel(steps), [0.75, -0.5])
    nothing = project_on_hyperplane(points, 0 * normal, tf.constant([5.0]), 0 * direction)
    np.testing.assert_array_equal(nothing, tf.zeros_like(points))


def test_fab_breaks_a_linear_model_down_to_the_distance_of_the_boundary():
    model, images, labels = linear()
    reach = distances_to_other_classes(model, images, labels).min(axis=1)
    for i in range(8):
        for factor, falls in ((1.1, True), (0.999, False)):
            epsilon = float(factor * reach[i])
            found = attacks.fab(model, images[i : i + 1], labels[i : i + 1], epsilon=epsilon)
            assert (predicted(model, found) != labels[i]) == falls


# Square


def test_squares_shrink_as_published():
    """p = 0.8, halved after 10, 50, 200, 500, 1000, 2000, 4000 queries (`resc_schedule=False`)."""
    sides = _sides(5000, 28, 28)
    assert sides[0] == 0  # looks at the stripes
    for query, p in ((1, 0.8), (10, 0.8), (11, 0.4), (51, 0.2), (201, 0.1), (4999, 0.8 / 128)):
        assert sides[query] == max(round(np.sqrt(p * 28 * 28)), 1)


def test_square_sees_no_gradients_and_still_breaks_all(digits_classifier, digits):
    images, labels = digits.test.floats[:60], digits.test.labels[:60]
    model = keras.Sequential([keras.Input((28, 28, 1)), Rounded(), digits_classifier])
    labels = predicted(model, images)
    adversarial = attacks.square(model, images, labels, epsilon=0.5, queries=1000)
    assert (predicted(model, adversarial) == labels).mean() < 0.05


def test_square_moves_pixels_to_the_faces_of_the_ball(digits_classifier, digits):
    images, labels = digits.test.floats[:20], digits.test.labels[:20]
    adversarial = attacks.square(digits_classifier, images, labels, epsilon=0.25)
    changed = (adversarial != images).any(axis=(1, 2, 3))
    low, high = np.maximum(images - 0.25, 0), np.minimum(images + 0.25, 1)
    at_face = np.minimum(np.abs(adversarial - low), np.abs(adversarial - high)) < 1e-6
    assert changed.any() and at_face[changed].all()


# AutoAttack


def test_autoattack_is_the_worst_case_of_its_members(digits_classifier, digits, monkeypatch):
    square = {"square": (attacks.square, {"queries": 200})}
    monkeypatch.setitem(VERSIONS, "standard", VERSIONS["standard"] | square)
    images, labels = digits.test.floats[:60], digits.test.labels[:60]
    whole = attacks.autoattack(digits_classifier, images, labels, epsilon=0.04)
    broken = predicted(digits_classifier, whole) != labels
    for name in ("apgd_ce", "apgd_t", "fab_t"):
        alone = ALL[name](digits_classifier, images, labels, epsilon=0.04)
        missed = (predicted(digits_classifier, alone) != labels) & ~broken
        assert missed.sum() <= 1, name  # other random starts
    assert 0.1 < broken.mean() < 0.95


def test_autoattack_tries_the_published_attacks_in_order():
    standard = VERSIONS["standard"]
    assert list(standard) == ["apgd_ce", "apgd_t", "fab_t", "square"]
    with pytest.raises(ValueError, match="version must be one of standard, plus, rand. Received"):
        attacks.autoattack(*linear(), epsilon=0.1, version="fast")


def test_misclassified_images_are_left_alone(digits_classifier, digits):
    images, labels = digits.test.floats[:20], (digits.test.labels[:20] + 1) % 10
    labels[:5] = digits.test.labels[:5]
    wrong = predicted(digits_classifier, images) != labels
    adversarial = attacks.autoattack(digits_classifier, images, labels, epsilon=0.3)
    np.testing.assert_array_equal(adversarial[wrong], images[wrong])


@pytest.mark.parametrize("broken_off_at", [1, 3, 5])
def test_an_interrupted_run_continues(broken_off_at, tmp_path, monkeypatch):
    """Killed inside any attack of any part, the same call ends with the images of a whole run."""
    monkeypatch.setattr(sys.modules[attacks.autoattack.__module__], "PART", 12)
    images, labels = toys.batch(20)
    model = toy()
    options = {"epsilon": 0.02, "batch_size": 8, "seed": 5}
    calls = []

    def counted(function):
        def attack(*args, **kwargs):
            calls.append(function)
            if len(calls) == broken_off_at:
                raise KeyboardInterrupt
            return function(*args, **kwargs)

        return attack

    quick = VERSIONS["standard"] | {"square": (attacks.square, {"queries": 50})}
    monkeypatch.setitem(VERSIONS, "standard", quick)
    expected = attacks.autoattack(model, images, labels, **options)
    wrapped = {name: (counted(function), settings) for name, (function, settings) in quick.items()}
    monkeypatch.setitem(VERSIONS, "standard", wrapped)
    with pytest.raises(KeyboardInterrupt):
        attacks.autoattack(model, images, labels, **options, state=tmp_path / "state")
    actual = attacks.autoattack(model, images, labels, **options, state=tmp_path / "state")
    np.testing.assert_array_equal(actual, expected)
    assert len(calls) == 2 * len(wrapped) + 1  # of two parts, only what broke off was done twice


@pytest.mark.parametrize(
    "change, named",
    [
        ({"epsilon": 0.2}, "epsilon"),
        ({"seed": 1}, "settings"),
        ({"images": 1}, "data"),
        ({"model": 1}, "model"),
        ({"function": 1}, "model"),
    ],
)
def test_state_of_anything_else_is_refused(change, named, tmp_path):
    model, images, labels = linear()
    attacks.autoattack(model, images, labels, epsilon=0.1, state=tmp_path)
    if "images" in change:
        images = images[::-1].copy()
        change = {}
    elif "function" in change:  # which Keras cannot describe
        away = keras.layers.Lambda(lambda logits: -logits, output_shape=(5,))
        model = keras.Sequential([keras.Input(toys.IMAGE_SHAPE), model, away])
        change = {}
    elif "model" in change:
        model.set_weights([1.001 * w for w in model.get_weights()])
        change = {}
    with pytest.raises(ValueError, match=f"something else. Different: {named} "):
        attacks.autoattack(model, images, labels, **{"epsilon": 0.1, **change}, state=tmp_path)
