"""The attacks in L-infinity and in L2: exact distances, the two balls, peers."""

import functools
import types

import foolbox
import numpy as np
import pytest
import scipy.optimize
import scipy.stats
import tensorflow as tf
import toys

from jarn_tf import attacks
from jarn_tf.attacks.ball import BALLS
from jarn_tf.attacks.fab import project_on_hyperplane
from jarn_tf.attacks.square_l2 import _window, tiles, with_window
from jarn_tf.randomness import BatchSlice

NORMS = ("linf", "l2")
GRADIENT_ATTACKS = {
    "fgsm": attacks.fgsm,
    "pgd": functools.partial(attacks.pgd, steps=40, random_start=False),
    "apgd_ce": attacks.apgd,
    "apgd_t": functools.partial(attacks.apgd, loss="dlr", targets=9),
    "fab_t": attacks.fab,
}
every_attack = pytest.mark.parametrize(
    "attack",
    [*GRADIENT_ATTACKS.values(), functools.partial(attacks.square, queries=200)],
    ids=[*GRADIENT_ATTACKS, "square"],
)
every_norm = pytest.mark.parametrize("norm", NORMS)


toy = functools.cache(toys.classifier)


def predicted(model, images):
    return np.asarray(model(images)).argmax(axis=-1).astype(np.int32)


def distance(norm, differences):
    flat = differences.astype(np.float64).reshape(len(differences), -1)
    return np.linalg.norm(flat, np.inf if norm == "linf" else 2, axis=1)


@functools.cache  # an attack is compiled once a model
def linear(pixels, seed):
    """Two classes: a model, and w, b such that it leads to the second where w x + b > 0."""
    rng = np.random.default_rng(seed)
    kernel = rng.normal(0, 1, (pixels, 2)).astype(np.float32)
    bias = np.float32([0, -0.5 * (kernel[:, 1] - kernel[:, 0]).sum()])  # through mid grey
    shape = (pixels // 3, 3, 1)
    model = toys.linear_classifier(kernel, bias, image_shape=shape)
    w = kernel[:, 1].astype(np.float64) - kernel[:, 0]
    return model, w, float(bias[1]), rng.uniform(0, 1, (8, *shape)).astype(np.float32)


def nearest(norm, image, w, offset):
    """The smallest step onto w x = offset within [0, 1], by scipy's solvers."""
    x, n = image.ravel().astype(np.float64), image.size
    room = [*zip(-x, 1 - x)]
    if norm == "linf":
        eye, ones = np.eye(n), -np.ones((n, 1))
        return scipy.optimize.linprog(
            np.r_[np.zeros(n), 1], A_ub=np.block([[eye, ones], [-eye, ones]]), b_ub=np.zeros(2 * n),
            A_eq=np.r_[w, 0][None], b_eq=[offset - w @ x], bounds=[*room, (0, 1)],
        ).fun  # fmt: skip
    on_plane = {"type": "eq", "fun": lambda step: w @ (x + step) - offset, "jac": lambda step: w}
    found = scipy.optimize.minimize(
        lambda step: step @ step, np.zeros(n), jac=lambda step: 2 * step, bounds=room,
        constraints=[on_plane], method="SLSQP", options={"ftol": 1e-12},
    )  # fmt: skip
    assert found.success
    return np.sqrt(found.fun)


@every_norm
@every_attack
def test_nothing_falls_below_the_exact_distance_of_a_linear_model_and_all_above(attack, norm):
    """Far from 0 and 1 it is |w x + b| over the dual norm of w."""
    model, w, b, images = linear(9, seed=2)
    images = 0.5 + 0.1 * (images - 0.5)
    labels = predicted(model, images)
    dual = np.abs(w).sum() if norm == "linf" else np.sqrt(w @ w)
    for image, label in zip(images[:2, None], labels[:2, None]):
        exact = abs(w @ image.ravel() + b) / dual
        assert predicted(model, attack(model, image, label, epsilon=0.999 * exact, norm=norm)) == (
            label
        )
        if attack in GRADIENT_ATTACKS.values():
            assert (
                predicted(model, attack(model, image, label, epsilon=1.02 * exact, norm=norm))
                != label
            )


@every_norm
@pytest.mark.parametrize("name", ["pgd", "apgd_ce", "apgd_t", "fab_t"])
def test_distances_where_pixels_end_at_0_and_1(name, norm):
    attack = GRADIENT_ATTACKS[name]
    model, w, b, images = linear(9, seed=2)
    images = np.concatenate([np.round(images[:, :2]), images[:, 2:]], axis=1)
    labels, cut = predicted(model, images), 0
    for image, label in zip(images[:4, None], labels[:4, None]):
        exact = nearest(norm, image, w, -b)
        free = abs(w @ image.ravel() + b) / (np.abs(w).sum() if norm == "linf" else np.sqrt(w @ w))
        cut += exact > 1.05 * free
        for factor, falls in ((0.998, False), (1.05, True)):
            found = attack(model, image, label, epsilon=float(factor * exact), norm=norm)
            assert (predicted(model, found) != label) == falls, (exact, factor)
    assert cut >= 2


@pytest.mark.parametrize("epsilon", [1e-3, 2.0])
@every_attack
def test_images_stay_in_the_l2_ball_to_the_last_bit(attack, epsilon):
    """Float64 holds the difference of two float32 pixels exactly, so no tolerance is needed."""
    images, labels = toys.batch(17)
    found = attack(toy(), images, labels, epsilon=epsilon, norm="l2")
    assert found.dtype == np.float32
    assert found.min() >= 0 and found.max() <= 1
    assert distance("l2", found.astype(np.float64) - images).max() <= epsilon


@pytest.mark.parametrize("step", [0, 50])
@pytest.mark.parametrize(
    "options", [{"steps": 1, "random_start": False}, {"steps": 3}, {"targets": "predictions"}]
)
def test_training_examples_fill_the_l2_ball_and_stay_in_it(options, step):
    images, labels = toys.batch(50)
    images = 0.4 + 0.2 * images
    examples = attacks.AdversarialExamples(0.25, norm="l2", warmup_steps=8, **options)
    batch = BatchSlice.of(tf.constant(images), 0, tf.constant(step))
    found = examples(toys.classifier(), tf.constant(images), tf.constant(labels), batch).numpy()
    radius = 0.25 * min(1, (step + 1) / 8)
    far = distance("l2", found.astype(np.float64) - images)
    assert 0.999 * radius < far.max() <= radius


def test_random_starts_are_uniform_in_the_l2_ball():
    """The share within r of the middle grows as r to the power of the dimension."""
    noise = 0.3 * tf.random.stateless_uniform((2000, 2, 2, 1), (0, 0), -1.0, 1.0)
    found = BALLS["l2"].fill(noise, 0.3).numpy().reshape(2000, 4)
    lengths = np.linalg.norm(found, axis=1) / 0.3
    assert scipy.stats.kstest(lengths**4, "uniform").pvalue > 0.01
    assert np.abs(found.mean(axis=0)).max() < 0.02
    on_surface = BALLS["l2"].surface(noise / 0.3).numpy().reshape(2000, 4)
    np.testing.assert_allclose(np.linalg.norm(on_surface, axis=1), 1, rtol=1e-5)


@pytest.mark.parametrize("size", [1e-30, 1.0, 1e30])
def test_the_steepest_step_does_not_depend_on_the_size_of_the_gradient(size):
    gradient = np.float32(size * np.array([3.0, -4.0])).reshape(1, 2, 1, 1)
    found = BALLS["l2"].steepest(tf.constant(gradient))
    np.testing.assert_allclose(np.ravel(found), [0.6, -0.8], rtol=1e-6)


# Peers


@pytest.mark.parametrize(("steps", "epsilon"), [(1, 0.5), (1, 1.0), (20, 1.0)])
def test_l2_attacks_agree_with_foolbox(digits_classifier, digits, steps, epsilon):
    images, labels = digits.train.floats[:1000], digits.train.labels[:1000]
    step = 2.5 * epsilon / steps
    if steps == 1:
        peer = foolbox.attacks.L2FastGradientAttack()
        found = attacks.fgsm(digits_classifier, images, labels, epsilon=epsilon, norm="l2")
    else:
        peer = foolbox.attacks.L2PGD(abs_stepsize=step, steps=steps, random_start=True)
        options = {"epsilon": epsilon, "norm": "l2", "steps": steps, "step_size": step}
        found = attacks.pgd(digits_classifier, images, labels, **options)
    tf.random.set_seed(0)
    of_peer = tf.constant(images), tf.constant(labels, tf.int64)  # eagerpy compares equal types
    fmodel = foolbox.TensorFlowModel(digits_classifier, bounds=(0, 1))
    theirs = 1 - peer(fmodel, *of_peer, epsilons=epsilon)[-1].numpy().mean()
    ours = (predicted(digits_classifier, found) == labels).mean()
    assert 0.15 < theirs < 0.95
    assert abs(ours - theirs) <= 0.01


# FAB


def test_the_l2_projection_on_a_hyperplane_is_that_of_scipy(rng):
    n, shape = 8, (3, 3, 1)
    points = rng.uniform(0, 1, (n, *shape)).astype(np.float32)
    points[:4, 0], points[2:6, 1] = 0, 1
    normal = rng.normal(0, 1, (n, *shape)).astype(np.float32)
    offset = (normal * rng.uniform(0, 1, (n, *shape))).sum(axis=(1, 2, 3)).astype(np.float32)
    direction = BALLS["l2"].steepest(tf.constant(normal))
    steps = project_on_hyperplane(tf.constant(points), normal, offset, direction).numpy()
    assert (points + steps).min() >= -1e-6 and (points + steps).max() <= 1 + 1e-6
    np.testing.assert_allclose((normal * (points + steps)).sum(axis=(1, 2, 3)), offset, atol=1e-4)
    exact = [nearest("l2", points[i], normal[i].ravel(), offset[i]) for i in range(n)]
    np.testing.assert_allclose(distance("l2", steps), exact, rtol=1e-3)


# Square


@pytest.mark.parametrize("side", [3, 5, 9])
def test_the_window_of_square_is_the_published_one(side):
    """Squares around the middle of each half, the k-th from outside 1 / k^2, one upon the other."""

    def hill(rows):
        found = np.zeros((rows, side))
        for k in range(max(rows // 2, side // 2) + 1):
            down = slice(max(rows // 2 - k, 0), rows // 2 + k + 1)
            found[down, max(side // 2 - k, 0) : side // 2 + k + 1] += 1 / (k + 1) ** 2
        return found / np.linalg.norm(found)

    expected = np.concatenate([hill(side // 2), -hill(side - side // 2)]) / np.sqrt(2)
    np.testing.assert_allclose(_window(tf.constant(side)), expected, atol=1e-6)


def test_a_window_is_filled_with_what_another_had():
    """Far from 0 and 1 steps stay as long as the ball is wide; outside both the form stays."""
    images = tf.fill((20, 28, 28, 2), 0.5)
    ball = BALLS["l2"].around(images, 0.3)
    start = tiles(images, ball, tf.constant([0, 1]), 0)
    state = types.SimpleNamespace(points=start, ball=ball)
    moved = with_window(state, tf.constant(5), (1, 2))
    before, after = (np.array(points - images) for points in (start, moved))
    for steps in (before, after):
        np.testing.assert_allclose(distance("l2", steps), 0.3, rtol=1e-5)
    for old, new in zip(before, after):
        scale = np.median(new[old != 0] / old[old != 0])
        changed = ~np.isclose(new, scale * old, atol=1e-6).all(axis=-1)
        assert 25 <= changed.sum() <= 2 * 25
