"""The regularisers JARN is compared with, against closed forms in NumPy, float64."""

import functools
import math

import keras
import numpy as np
import pytest
import tensorflow as tf
import toys

from jarn_tf import Defense
from jarn_tf.baselines import (
    TRADES,
    GradientAlignment,
    InputGradientPenalty,
    LogitJacobianPenalty,
)
from jarn_tf.randomness import BatchSlice

PIXELS = math.prod(toys.IMAGE_SHAPE)
RADIUS = 0.5  # of the noise of gradient alignment
KINDS = {
    "l2": functools.partial(InputGradientPenalty, norm="l2"),
    "l1": functools.partial(InputGradientPenalty, norm="l1"),
    "frobenius": functools.partial(LogitJacobianPenalty, projections=2),
    "trades": TRADES,
    "alignment": functools.partial(GradientAlignment, epsilon=RADIUS),
}


@keras.saving.register_keras_serializable("test_baselines")
def inverted(classifier, images, labels, batch):
    """A perturbation without randomness."""
    return 1 - images


def make(kind, classifier=None, weight=2.0, rate=1.0, **options):
    options.setdefault("perturb", inverted)
    model = KINDS[kind](classifier or toys.classifier(), weight, **options)
    model.compile(keras.optimizers.SGD(rate), run_eagerly=True)
    return model


def fit(model, images, labels, weights=None, epochs=1):
    options = {"sample_weight": weights, "shuffle": False, "verbose": 0}
    return model.fit(images, labels, 8, epochs, **options).history


def softmax(logits):
    e = np.exp(logits - logits.max(axis=1, keepdims=True))
    return e / e.sum(axis=1, keepdims=True)


def kl(p, q):
    return (p * np.log(p / q)).sum(axis=1)


def flat(images):
    return images.reshape(len(images), -1).astype(np.float64)


def slice_of(images, step=0, seed=0):
    return BatchSlice.of(tf.constant(images), seed, tf.constant(step))


def eta_of(images, step=0, seed=0):
    """The noise of gradient alignment, flat, in float64."""
    drawn = slice_of(images, step, seed).uniform(tf.constant(images), -1.0, 1.0, stream=4)
    return RADIUS * flat(drawn.numpy())


def cosines(a, b):
    """Of flat images, each two."""
    return (a * b).sum(axis=1) / np.sqrt((a**2).sum(axis=1) * (b**2).sum(axis=1))


# Each penalty on a linear classifier


@pytest.fixture
def linear(rng):
    """(classifier, W, b) in float64."""
    kernel, bias = rng.normal(0, 0.3, (PIXELS, toys.CLASSES)), np.array([0.1, -0.2, 0.3])
    return toys.linear_classifier(kernel, bias, dtype="float64"), kernel, bias


@pytest.mark.parametrize(("kind", "power"), [("l2", 2), ("l1", 1)])
def test_norms_of_the_input_gradient(linear, kind, power):
    classifier, kernel, bias = linear
    clean, labels = toys.batch(5)
    images = 1 - clean.astype(np.float64)
    probabilities = softmax(flat(images) @ kernel + bias)
    gradient = (probabilities - np.eye(toys.CLASSES)[labels]) @ kernel.T  # Eq. 6
    logits, penalties = make(kind, classifier).penalties(
        tf.constant(clean), tf.constant(images), tf.constant(labels), slice_of(images)
    )
    np.testing.assert_allclose(softmax(logits.numpy()), probabilities, rtol=1e-12)
    np.testing.assert_allclose(penalties, (np.abs(gradient) ** power).sum(axis=1), rtol=1e-10)


def test_trades_is_the_divergence_from_the_clean_to_the_perturbed_prediction(linear):
    classifier, kernel, bias = linear
    clean, labels = toys.batch(5)
    clean = clean.astype(np.float64)
    images = 1 - clean
    p, q = (softmax(flat(x) @ kernel + bias) for x in (clean, images))
    logits, penalties = make("trades", classifier).penalties(
        tf.constant(clean), tf.constant(images), tf.constant(labels), slice_of(images)
    )
    np.testing.assert_allclose(softmax(logits.numpy()), p, rtol=1e-12)
    np.testing.assert_allclose(penalties, kl(p, q), rtol=1e-10)
    assert np.abs(kl(p, q) - kl(q, p)).max() > 1e-3  # so that the order matters


def alignment(classifier, images, labels, epsilon=RADIUS, step=0, seed=0):
    """Penalties of gradient alignment; the perturbed images have no part in them."""
    images = tf.constant(images)
    model = GradientAlignment(classifier, 1.0, epsilon)
    found = model.penalties(images, 1 - images, tf.constant(labels), slice_of(images, step, seed))
    return found[1].numpy()


def alignment_of_linear(kernel, bias, images, labels):
    """The penalty in NumPy, float64; the gradients are Eq. 6."""

    def gradient(x):
        return (softmax(x @ kernel + bias) - np.eye(toys.CLASSES)[labels]) @ kernel.T

    return 1 - cosines(gradient(flat(images)), gradient(flat(images) + eta_of(images)))


def test_gradient_alignment_is_one_minus_the_cosine_of_two_gradients(linear):
    """Of clean and of noisy images, while the logits are those of the perturbed ones."""
    classifier, kernel, bias = linear
    clean, labels = toys.batch(20)
    clean = clean.astype(np.float64)
    logits, penalties = make("alignment", classifier).penalties(
        *map(tf.constant, (clean, 1 - clean, labels)), slice_of(clean)
    )
    expected = alignment_of_linear(kernel, bias, clean, labels)
    assert expected.max() > 0.1
    np.testing.assert_allclose(penalties, expected, atol=1e-12)
    np.testing.assert_allclose(softmax(logits.numpy()), softmax(flat(1 - clean) @ kernel + bias))


def test_gradient_alignment_where_the_classifier_is_sure(rng):
    """Of a probability of 1 - 1e-9, float32 leaves 1, and of the gradient's direction nothing."""
    kernel, bias = rng.normal(0, 1.0, (PIXELS, toys.CLASSES)), np.array([28.0, 0.0, 0.0])
    images, labels = toys.batch(50)
    labels[:] = 0
    unsure = 1 - softmax(flat(images) @ kernel + bias)[:, 0]
    chosen = (unsure < 1e-8) & (unsure > 1e-11)
    expected = alignment_of_linear(kernel, bias, images, labels)[chosen]
    assert chosen.sum() > 5 and expected.max() > 0.1
    found = alignment(toys.linear_classifier(kernel, bias), images, labels)[chosen]
    np.testing.assert_allclose(found, expected, atol=1e-3)


def test_two_linear_classes_are_aligned_everywhere(rng):
    """The gradient is a positive multiple of w or of -w, by the label."""
    model = toys.linear_classifier(rng.normal(0, 0.3, (PIXELS, 2)))
    images, labels = toys.batch(20)
    np.testing.assert_allclose(alignment(model, images, labels % 2), 0, atol=1e-6)


def test_radius_0_is_aligned():
    images, labels = toys.batch(8)
    np.testing.assert_allclose(alignment(toys.classifier(), images, labels, 0.0), 0, atol=1e-6)


def test_an_image_without_a_gradient_has_no_penalty_and_moves_nothing():
    """The constant classifier; its weights move by L_cls alone."""
    images, labels = toys.batch(8)
    constant = toys.linear_classifier(np.zeros((PIXELS, toys.CLASSES)))
    np.testing.assert_array_equal(alignment(constant, images, labels), 0)
    steps = []
    for weight in (0.0, 5.0):
        model = make("alignment", keras.models.clone_model(constant), weight=weight)
        model.classifier.set_weights(constant.get_weights())
        fit(model, images, labels)
        steps.append(toys.arrays(model.classifier.weights))
    for a, b in zip(*steps):
        assert np.isfinite(a).all()
        np.testing.assert_array_equal(a, b)


def test_noise_of_gradient_alignment_is_not_that_of_the_perturbation():
    """Its own draw; it differs between steps and seeds, and not between equal ones."""
    images, labels = toys.batch(8)
    options = {"classifier": toys.classifier(), "images": images, "labels": labels}
    first = alignment(**options, step=3, seed=5)
    np.testing.assert_array_equal(first, alignment(**options, step=3, seed=5))
    for other in ({"step": 4, "seed": 5}, {"step": 3, "seed": 6}):
        assert (alignment(**options, **other) != first).all()
    start = RADIUS * flat(slice_of(images).uniform(tf.constant(images), -1.0, 1.0).numpy())
    assert np.abs(cosines(start, eta_of(images))).max() < 0.6  # 72 pixels


def frobenius(kernel, images, projections, steps=(0,), seed=0):
    """Estimates [steps, images] of |W|^2."""
    classifier = toys.linear_classifier(kernel, dtype="float64")
    model = LogitJacobianPenalty(classifier, 1.0, projections=projections)
    images = tf.constant(images, tf.float64)
    estimates = [
        model.penalties(images, images, None, slice_of(images, step, seed))[1] for step in steps
    ]
    return np.array(estimates)


@pytest.mark.parametrize("projections", [1, 5])
@pytest.mark.parametrize("classes", [2, 3, 10])
def test_projections_average_to_the_frobenius_norm(rng, classes, projections):
    """Within 4 standard errors, and with the variance that theory gives.

    For v uniform on the sphere of n dimensions and A = W^T W, E (v^T A v)^2 is
    (2 |A|^2 + tr(A)^2) / (n (n + 2)).
    """
    kernel = rng.normal(0, 0.3, (PIXELS, classes)) * rng.uniform(0.2, 2, classes)
    images, _ = toys.batch(100)
    estimates = frobenius(kernel, images, projections, steps=range(20))
    gram, norm = kernel.T @ kernel, (kernel**2).sum()
    second_moment = (2 * (gram**2).sum() + norm**2) / (classes * (classes + 2))
    variance = (classes**2 * second_moment - norm**2) / projections
    error = math.sqrt(variance / estimates.size)
    assert error < 0.03 * norm
    assert abs(estimates.mean() - norm) < 4 * error
    np.testing.assert_allclose(estimates.var(), variance, rtol=0.15)


def test_one_projection_is_exact_where_the_jacobian_is_orthogonal(rng):
    """All unit vectors are stretched alike there, so there is nothing random left."""
    orthogonal, _ = np.linalg.qr(rng.normal(size=(PIXELS, 4)))
    images, _ = toys.batch(6)
    estimates = frobenius(1.5 * orthogonal, images, projections=1)
    np.testing.assert_allclose(estimates, 4 * 1.5**2, rtol=1e-6)  # directions are float32


def test_projections_differ_between_images_steps_and_seeds(rng):
    kernel = rng.normal(0, 0.3, (PIXELS, toys.CLASSES))
    images, _ = toys.batch(6)
    kwargs = {"kernel": kernel, "images": images, "projections": 1}
    drawn = frobenius(steps=(0, 1), seed=0, **kwargs), frobenius(steps=(0, 1), seed=1, **kwargs)
    assert np.unique(np.round(drawn, 6)).size == 24
    np.testing.assert_array_equal(drawn[0], frobenius(steps=(0, 1), seed=0, **kwargs))


def test_slices_draw_the_directions_of_the_whole_batch():
    logits, step = tf.zeros((7, toys.CLASSES)), tf.constant(5)
    whole = BatchSlice.of(logits, 3, step).directions(logits, 2)
    parts = [
        BatchSlice(3, step, *map(tf.constant, (start, stop - start, 7))).directions(
            logits[start:stop], 2
        )
        for start, stop in ((0, 4), (4, 7), (7, 7))
    ]
    np.testing.assert_allclose(np.concatenate(parts, axis=1), whole, atol=1e-6)
    np.testing.assert_allclose(np.linalg.norm(whole, axis=-1), 1, rtol=1e-6)


# The whole objective


def hidden_layer_classifier():
    """Logits tanh(x A + a) B + b; its weights are A, a, B, b."""
    keras.utils.set_random_seed(0)
    normal = keras.initializers.RandomNormal
    return keras.Sequential(
        [
            keras.Input(toys.IMAGE_SHAPE),
            keras.layers.Flatten(),
            keras.layers.Dense(4, activation="tanh", kernel_initializer=normal(0, 0.2)),
            keras.layers.Dense(toys.CLASSES, kernel_initializer=normal(0, 1.0)),
        ]
    )


def objective(kind, weights, clean, labels, weight, directions, eta):
    """L_cls + weight * penalty of `hidden_layer_classifier` and `inverted`."""
    a_kernel, a_bias, b_kernel, b_bias = weights

    def gradient_of_loss(x):
        hidden = np.tanh(x @ a_kernel + a_bias)
        of_logits = softmax(hidden @ b_kernel + b_bias) - np.eye(toys.CLASSES)[labels]
        return (of_logits @ b_kernel.T * (1 - hidden**2)) @ a_kernel.T

    of_clean, of_inverted = (np.tanh(x @ a_kernel + a_bias) for x in (clean, 1 - clean))
    p_clean, p = (softmax(hidden @ b_kernel + b_bias) for hidden in (of_clean, of_inverted))
    y = np.eye(toys.CLASSES)[labels]
    # d logits / d x, [batch, pixels, classes]
    jacobian = np.einsum("pk,nk,kc->npc", a_kernel, 1 - of_inverted**2, b_kernel)
    if kind == "alignment":
        penalty = 1 - cosines(gradient_of_loss(clean), gradient_of_loss(clean + eta))
    elif kind == "trades":
        penalty, p = kl(p_clean, p), p_clean
    elif kind == "frobenius":
        projected = np.einsum("npc,knc->knp", jacobian, directions)
        penalty = toys.CLASSES * (projected**2).sum(axis=2).mean(axis=0)
    else:
        gradient = np.einsum("npc,nc->np", jacobian, p - y)
        penalty = (gradient**2 if kind == "l2" else np.abs(gradient)).sum(axis=1)
    return (weight * penalty - np.log((p * y).sum(axis=1))).mean()


@pytest.mark.parametrize("kind", KINDS)
def test_a_step_descends_the_objective(kind):
    """With SGD of rate 1 the step is the gradient, here by central differences."""
    images, labels = toys.batch(6)
    model = make(kind, hidden_layer_classifier(), weight=3.0, seed=5)
    start = toys.arrays(model.classifier.weights)
    directions = slice_of(images, seed=5).directions(tf.zeros((6, toys.CLASSES)), 2).numpy()
    eta = eta_of(images, seed=5)
    fit(model, images, labels)
    steps = [a - b for a, b in zip(start, toys.arrays(model.classifier.weights))]

    def slope(weight, i, index, h=1e-6):
        sides = []
        for sign in (1, -1):
            moved = [w.astype(np.float64) for w in start]
            moved[i][index] += sign * h
            sides.append(objective(kind, moved, flat(images), labels, weight, directions, eta))
        return (sides[0] - sides[1]) / (2 * h)

    of_penalty = []
    for i, step in enumerate(steps):
        for index in list(np.ndindex(*step.shape))[:: max(1, step.size // 12)]:
            expected = slope(3.0, i, index)
            np.testing.assert_allclose(step[index], expected, rtol=1e-3, atol=3e-6)
            of_penalty.append(expected - slope(0.0, i, index))
    assert np.abs(of_penalty).max() > 1e-2  # far above the tolerance


@pytest.mark.parametrize("kind", KINDS)
def test_penalty_weight_0_is_plain_training(kind):
    """On perturbed images; TRADES classifies the clean ones."""
    images, labels = toys.batch(12)
    model = make(kind, weight=0.0)
    plain = Defense(toys.classifier(), perturb=None if kind == "trades" else inverted)
    plain.compile(keras.optimizers.SGD(1.0), run_eagerly=True)
    for m in (model, plain):
        fit(m, images, labels)
    toys.assert_same(toys.state(model), toys.state(plain), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("kind", ["l2", "l1", "frobenius"])
def test_a_penalty_that_rests_counts_the_more_on_the_other_steps(kind):
    """Every third step has three times the weight; those between are plain training."""
    images, labels = toys.batch(12)
    lazy = make(kind, weight=0.5, regularization_interval=3)
    penalized = make(kind, weight=1.5)
    plain = Defense(toys.classifier(), perturb=inverted)
    plain.compile(keras.optimizers.SGD(1.0), run_eagerly=True)
    for step in range(5):
        current = plain if step % 3 else penalized
        current.classifier.set_weights(lazy.classifier.get_weights())
        current.classifier_optimizer.iterations.assign(step)
        logs = {m: m.train_on_batch(images, labels, return_dict=True) for m in (lazy, current)}
        toys.assert_same(toys.state(lazy), toys.state(current), rtol=1e-5, atol=1e-6)
        assert ("penalty" in logs[current]) == (step % 3 == 0)


def test_trades_of_unperturbed_images_is_plain_training():
    images, labels = toys.batch(12)
    model, plain = make("trades", weight=6.0, perturb=None), Defense(toys.classifier())
    plain.compile(keras.optimizers.SGD(1.0), run_eagerly=True)
    history = fit(model, images, labels)
    fit(plain, images, labels)
    np.testing.assert_allclose(history["penalty"], 0, atol=1e-6)
    toys.assert_same(toys.state(model), toys.state(plain), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_sample_weights_weigh_the_classification_loss_alone(kind):
    """Weights of 0 leave what the penalty gives; SGD's steps add up."""
    images, labels = toys.batch(8)

    def step(weights, **options):
        model = make(kind, **options)
        start = toys.arrays(model.classifier.weights)
        fit(model, images, labels, np.float32(weights))
        after = toys.arrays(model.classifier.weights)
        return np.concatenate([(b - a).ravel() for a, b in zip(start, after)])

    weights = np.linspace(0.2, 2, 8)
    both, penalty = step(weights), step(np.zeros(8))
    assert np.abs(penalty).max() > 1e-3
    np.testing.assert_allclose(both, penalty + step(weights, weight=0.0), rtol=1e-3, atol=1e-6)


# What is reported


def test_reported_loss_and_penalty_are_means_over_the_images_of_an_epoch(linear):
    """Not the last batch's, nor the batches' mean. Rate 0 keeps the weights."""
    _, kernel, bias = linear
    clean, labels = toys.batch(20)  # batches of 8, 8 and 4
    clean[16:], labels[16:] = 0.5, (0.5 * kernel.sum(axis=0) + bias).argmax()  # easy ones
    p_clean, p = (softmax(flat(x) @ kernel + bias) for x in (clean, 1 - clean))
    gradient = (p - np.eye(toys.CLASSES)[labels]) @ kernel.T
    expected = {
        "l2": (p, (gradient**2).sum(axis=1)),
        "l1": (p, np.abs(gradient).sum(axis=1)),
        "trades": (p_clean, kl(p_clean, p)),  # L_cls is of the clean images
    }
    for kind, (classified, penalties) in expected.items():
        model = make(kind, toys.linear_classifier(kernel, bias), rate=0.0)
        history = fit(model, clean, labels, epochs=2)
        loss = -np.log(classified[np.arange(20), labels]).mean()
        np.testing.assert_allclose(history["penalty"], [penalties.mean()] * 2, rtol=1e-4)
        np.testing.assert_allclose(history["loss"], [loss] * 2, rtol=1e-5)
        np.testing.assert_allclose(
            history["accuracy"], [(classified.argmax(axis=1) == labels).mean()] * 2, rtol=1e-6
        )
        assert penalties[16:].mean() < 0.5 * penalties.mean()


@pytest.mark.parametrize("kind", KINDS)
def test_evaluation_has_no_penalty(kind):
    images, labels = toys.batch(8)
    model = make(kind)
    fit(model, images, labels)
    assert set(model.evaluate(images, labels, verbose=0, return_dict=True)) == {"loss", "accuracy"}


# Arguments


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("weight", [-0.1, math.nan, math.inf])
def test_penalty_weights_out_of_range(kind, weight):
    with pytest.raises(ValueError, match="penalty_weight must be .*Received") as error:
        KINDS[kind](toys.classifier(), weight)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("of", "option", "message"),
    [
        (InputGradientPenalty, {"norm": "linf"}, "norm must be one of l2, l1"),
        (LogitJacobianPenalty, {"projections": 0}, "projections must be a whole number"),
        (LogitJacobianPenalty, {"projections": 1.5}, "projections must be a whole number"),
        (GradientAlignment, {"epsilon": -0.1}, "epsilon must be a number in"),
        (InputGradientPenalty, {"regularization_interval": 0}, "regularization_interval must be"),
        (LogitJacobianPenalty, {"regularization_interval": 0}, "regularization_interval must be"),
        (GradientAlignment, {"epsilon": 8}, "did you mean 8/255"),
    ],
)
def test_options_out_of_range(of, option, message):
    with pytest.raises(ValueError, match=message) as error:
        of(toys.classifier(), 1.0, **option)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("kind", KINDS)
def test_config_makes_the_same_model(kind):
    model = make(kind, weight=0.25, seed=7, name="defense")
    again = type(model).from_config(model.get_config())
    assert again.get_config() == model.get_config()
    again.classifier.set_weights(model.classifier.get_weights())
    again.compile(keras.optimizers.SGD(1.0), run_eagerly=True)
    images, labels = toys.batch(12)
    for m in (model, again):
        fit(m, images, labels)
    toys.assert_same(toys.state(again), toys.state(model))
