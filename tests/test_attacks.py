import math

import foolbox
import keras
import numpy as np
import pytest
import tensorflow as tf
import toys

from jarn_tf import attacks
from jarn_tf.randomness import BatchSlice

LOSSES = ("cross_entropy", "margin")


def loss_values(model, images, labels, loss):
    logits = np.asarray(model(images), np.float64)
    right = logits[np.arange(len(labels)), labels]
    if loss == "cross_entropy":
        return np.log(np.exp(logits).sum(axis=1)) - right
    logits[np.arange(len(labels)), labels] = -np.inf
    return logits.max(axis=1) - right


@pytest.fixture
def linear(rng):
    """(two-class model, w of class 1 minus w of class 0 [pixels])."""
    kernel = rng.normal(0, 1, (np.prod(toys.IMAGE_SHAPE), 2)).astype(np.float32)
    return toys.linear_classifier(kernel), kernel[:, 1] - kernel[:, 0]


def two_class_batch(n, seed=0):
    images, labels = toys.batch(n, seed)
    return images, labels % 2


# Uniform noise


def noise(images, step=0, seed=0, epsilon=0.3, fraction=1.0):
    batch = BatchSlice.of(tf.constant(images), seed, tf.constant(step))
    perturb = attacks.UniformNoise(epsilon, fraction)
    return perturb(None, tf.constant(images), None, batch).numpy()


def test_noise_stays_in_the_ball_and_fills_it():
    images = np.full((50, *toys.IMAGE_SHAPE), 0.5, np.float32)
    difference = noise(images) - images
    assert np.abs(difference).max() <= 0.3 + 1e-7
    assert difference.max() > 0.29
    assert difference.min() < -0.29
    assert abs(difference.mean()) < 0.02
    np.testing.assert_allclose(difference.std(), 0.3 / math.sqrt(3), rtol=0.03)  # uniform
    images, _ = toys.batch(50)
    noisy = noise(images)
    assert (noisy >= 0).all() and (noisy <= 1).all()


def test_noise_is_a_function_of_seed_and_step():
    images, _ = toys.batch(4)
    first = noise(images, step=3, seed=5)
    np.testing.assert_array_equal(first, noise(images, step=3, seed=5))
    assert (first != noise(images, step=4, seed=5)).any()
    assert (first != noise(images, step=3, seed=6)).any()
    assert (first != noise(images, step=5, seed=3)).any()


@pytest.mark.parametrize(("fraction", "noisy"), [(0.0, 0), (0.25, 2), (0.5, 4), (1.0, 8)])
def test_noise_on_a_fraction_of_the_batch(fraction, noisy):
    images, _ = toys.batch(8)
    changed = (noise(images, fraction=fraction) != images).any(axis=(1, 2, 3))
    assert changed.sum() == noisy


def test_each_image_has_its_own_noise():
    images = np.full((3, *toys.IMAGE_SHAPE), 0.5, np.float32)
    noisy = noise(images)
    assert (noisy[0] != noisy[1]).mean() > 0.9
    assert (noisy[1] != noisy[2]).mean() > 0.9


# FGSM


@pytest.mark.parametrize("loss", LOSSES)
def test_fgsm_on_a_linear_model(linear, loss):
    model, w = linear
    images, labels = two_class_batch(20)
    away = np.where(labels[:, None] == 1, -1, 1) * np.sign(w)
    expected = np.clip(images + 0.1 * away.reshape(images.shape), 0, 1)
    adversarial = attacks.fgsm(model, images, labels, epsilon=0.1, loss=loss)
    np.testing.assert_allclose(adversarial, expected, atol=1e-6)


# Bounds


@pytest.mark.parametrize("epsilon", [0.3, 8 / 255, 0.1])
@pytest.mark.parametrize("attack", ["fgsm", "pgd"])
def test_adversarial_images_stay_in_the_ball_to_the_last_bit(linear, attack, epsilon):
    """Float64 holds the difference of two float32 pixels exactly, so no tolerance is needed."""
    model, _ = linear
    images, labels = two_class_batch(200)
    assert (images == 0).any() and (images == 1).any()
    if attack == "fgsm":
        adversarial = attacks.fgsm(model, images, labels, epsilon=epsilon)
    else:
        adversarial = attacks.pgd(model, images, labels, epsilon=epsilon, steps=5)
    assert adversarial.dtype == np.float32
    assert adversarial.min() >= 0 and adversarial.max() <= 1
    difference = np.abs(adversarial.astype(np.float64) - images.astype(np.float64))
    assert difference.max() <= epsilon
    inside = (images > epsilon) & (images < 1 - epsilon)
    assert difference[inside].max() > epsilon * 0.999


@pytest.mark.parametrize("attack", ["fgsm", "pgd", "pgd_margin"])
def test_epsilon_0_is_the_image_itself(attack):
    model = toys.classifier()
    images, labels = toys.batch(10)
    if attack == "fgsm":
        adversarial = attacks.fgsm(model, images, labels, epsilon=0)
    else:
        loss = "margin" if attack == "pgd_margin" else "cross_entropy"
        adversarial = attacks.pgd(model, images, labels, epsilon=0.0, steps=3, loss=loss)
    np.testing.assert_array_equal(adversarial, images)


# PGD


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("random_start", [False, True])
def test_pgd_reaches_the_optimum_of_a_linear_model(linear, loss, random_start):
    model, w = linear
    images, labels = two_class_batch(20)
    away = np.where(labels[:, None] == 1, -1, 1) * np.sign(w)
    optimum = np.clip(images + 0.2 * away.reshape(images.shape), 0, 1)
    adversarial = attacks.pgd(
        model, images, labels, epsilon=0.2, steps=10, loss=loss, random_start=random_start
    )
    np.testing.assert_allclose(adversarial, optimum, atol=1e-6)
    np.testing.assert_allclose(
        loss_values(model, adversarial, labels, "margin"),
        loss_values(model, optimum, labels, "margin"),
        atol=1e-4,
    )


@pytest.mark.parametrize("loss", LOSSES)
def test_pgd_never_ends_below_the_image_nor_below_fewer_restarts(digits_classifier, digits, loss):
    images, labels = digits.test.floats[:60], digits.test.labels[:60]
    # Steps that leap across the ball overshoot, so that the last point is often not the best.
    found = [loss_values(digits_classifier, images, labels, loss)]
    for restarts in (1, 2, 5):
        adversarial = attacks.pgd(
            digits_classifier,
            images,
            labels,
            epsilon=0.1,
            step_size=0.2,
            steps=3,
            restarts=restarts,
            loss=loss,
        )
        found.append(loss_values(digits_classifier, adversarial, labels, loss))
    assert (np.diff(found, axis=0) >= -1e-5).all()
    assert found[-1].mean() > found[1].mean() > found[0].mean()


@pytest.mark.parametrize("steps", [10, 40])
def test_pgd_agrees_with_foolbox(digits_classifier, digits, steps):
    images = tf.constant(digits.train.floats[:1000])
    labels = tf.constant(digits.train.labels[:1000], tf.int64)  # eagerpy compares equal types only
    epsilon, step = 0.08, 2.5 * 0.08 / steps
    peer = foolbox.attacks.LinfPGD(abs_stepsize=step, steps=steps, random_start=True)
    fmodel = foolbox.TensorFlowModel(digits_classifier, bounds=(0, 1))
    tf.random.set_seed(0)
    _, _, broken = peer(fmodel, images, labels, epsilons=epsilon)
    theirs = 1 - broken.numpy().mean()
    adversarial = attacks.pgd(
        digits_classifier, images, labels, epsilon=epsilon, step_size=step, steps=steps
    )
    ours = (digits_classifier(adversarial).numpy().argmax(axis=1) == labels.numpy()).mean()
    assert 0.15 < theirs < 0.85
    assert abs(ours - theirs) <= 0.01


def test_pgd_is_a_function_of_its_seed(digits_classifier, digits):
    images, labels = digits.test.floats[:20], digits.test.labels[:20]

    def run(seed):
        return attacks.pgd(digits_classifier, images, labels, epsilon=0.1, steps=2, seed=seed)

    np.testing.assert_array_equal(run(1), run(1))
    assert (run(1) != run(2)).any()


@pytest.mark.parametrize("steps", [1, 5, 40])
def test_default_step_can_cross_the_ball(steps):
    """Else more steps could be weaker than few; 2/255 at 8/255 is the authors' step."""
    step = attacks.default_step_size(8 / 255, steps)
    assert step <= 2 / 255 + 1e-12
    if steps >= 10:
        assert step * steps >= 2 * 8 / 255


def test_attacks_run_in_inference_mode_and_leave_the_classifier_alone():
    model = keras.Sequential(
        [
            keras.Input(toys.IMAGE_SHAPE),
            keras.layers.BatchNormalization(),
            keras.layers.Flatten(),
            keras.layers.Dense(3),
        ]
    )
    before = toys.arrays(model.weights)
    images, labels = toys.batch(8)
    attacks.fgsm(model, images, labels, epsilon=0.1)
    attacks.pgd(model, images, labels, epsilon=0.1, steps=2)
    for a, b in zip(toys.arrays(model.weights), before):
        np.testing.assert_array_equal(a, b)


# PGD that stops at the first misclassified point


def misclassified(model, images, labels):
    return model(images).numpy().argmax(axis=1) != labels


@pytest.fixture(scope="module")
def stopping(digits_classifier, digits):
    """(loss, restarts, step size) to what PGD finds with and without stopping, and the images.

    Of the images some are misclassified from the start, some on the way, some never.
    """
    images, labels = digits.test.floats[:120], digits.test.labels[:120]

    def run(loss, restarts=1, step_size=None, **options):
        return [
            attacks.pgd(
                digits_classifier, images, labels, epsilon=0.07, steps=7, restarts=restarts,
                step_size=step_size, loss=loss, stop_when_misclassified=stop, seed=2, **options,
            )
            for stop in (False, True)
        ]  # fmt: skip

    return run, images, labels


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"restarts": 3},
        {"random_start": False},
        {"restarts": 2, "step_size": 0.05},  # leaps, so that the last point is often not the best
    ],
)
def test_stopping_finds_every_image_that_the_whole_search_finds(
    stopping, digits_classifier, options
):
    """The highest margin met is positive exactly if any point met is misclassified."""
    run, images, labels = stopping
    whole, stopped = (misclassified(digits_classifier, x, labels) for x in run("margin", **options))
    np.testing.assert_array_equal(stopped, whole)
    assert misclassified(digits_classifier, images, labels).mean() < whole.mean() - 0.2
    assert whole.mean() < 0.9
    whole, stopped = (
        misclassified(digits_classifier, x, labels) for x in run("cross_entropy", **options)
    )
    assert (stopped >= whole).all()


@pytest.mark.parametrize("loss", LOSSES)
def test_stopping_leaves_misclassified_images_alone(stopping, digits_classifier, loss):
    run, images, labels = stopping
    wrong = misclassified(digits_classifier, images, labels)
    assert wrong.any()
    whole, stopped = run(loss, restarts=2)
    np.testing.assert_array_equal(stopped[wrong], images[wrong])
    assert (whole[wrong] != images[wrong]).any(axis=(1, 2, 3)).all()


@pytest.mark.parametrize("loss", LOSSES)
def test_stopped_images_stay_in_the_ball(stopping, loss):
    run, images, _ = stopping
    _, stopped = run(loss, restarts=2)
    assert stopped.min() >= 0 and stopped.max() <= 1
    assert np.abs(stopped.astype(np.float64) - images).max() <= 0.07


@pytest.mark.parametrize("loss", LOSSES)
def test_stopping_climbs_as_high_where_no_point_is_misclassified(stopping, digits_classifier, loss):
    run, _, labels = stopping
    whole, stopped = run(loss, restarts=2)
    robust = ~misclassified(digits_classifier, stopped, labels)
    assert robust.any()
    found, expected = (
        loss_values(digits_classifier, x[robust], labels[robust], loss) for x in (stopped, whole)
    )
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)


def ridge_classifier():
    """Of one pixel z, right but on a ridge around 0.6: the only place where the second class leads.

    Beyond it the third class rises to just below the first, so that there the cross-entropy, not
    the margin, is highest.
    """
    corners = {  # z: logits of the second and third class; the first is 0
        0.0: (-1, -9),
        0.5: (-1, -9),
        0.58: (0.1, -2),
        0.7: (-0.05, -0.05),
        1.0: (-0.05, -0.05),
    }
    places = np.array(list(corners))
    slopes = np.diff(np.array(list(corners.values())), axis=0) / np.diff(places)[:, None]
    model = keras.Sequential(
        [
            keras.Input((1, 1, 1)),
            keras.layers.Flatten(),
            keras.layers.Dense(4, activation="relu"),
            keras.layers.Dense(3),
        ]
    )
    ramps = np.diff(slopes, axis=0, prepend=0)
    rows = np.concatenate([np.zeros((4, 1)), ramps], axis=1)
    model.set_weights([np.ones((1, 4)), -places[:4], rows, np.array([0, *corners[0.0]])])
    return model


def test_stopping_keeps_a_misclassified_point_below_the_highest():
    model = ridge_classifier()
    image, label = np.full((1, 1, 1, 1), 0.51, np.float32), np.int32([0])
    logits = model(np.float32([0.51, 0.59, 0.7]).reshape(3, 1, 1, 1)).numpy()
    assert logits.argmax(axis=1).tolist() == [0, 1, 0]
    options = {"epsilon": 0.2, "step_size": 0.08, "steps": 4, "random_start": False}
    whole = attacks.pgd(model, image, label, **options)
    stopped = attacks.pgd(model, image, label, stop_when_misclassified=True, **options)
    assert not misclassified(model, whole, label)
    assert misclassified(model, stopped, label)
    np.testing.assert_allclose(stopped, 0.59, atol=1e-6)


def test_stopping_takes_a_misclassified_point_below_the_image_itself():
    """Right beyond the ridge, where the loss is highest; a random start meets the ridge."""
    model = ridge_classifier()
    image, label = np.full((1, 1, 1, 1), 0.7, np.float32), np.int32([0])
    options = {"epsilon": 0.2, "step_size": 1e-4, "steps": 1, "restarts": 30}
    whole = attacks.pgd(model, image, label, **options)
    stopped = attacks.pgd(model, image, label, stop_when_misclassified=True, **options)
    assert not misclassified(model, whole, label)
    assert misclassified(model, stopped, label)
    assert loss_values(model, stopped, label, "cross_entropy") < loss_values(
        model, image, label, "cross_entropy"
    )


# Bad input


@pytest.mark.parametrize("attack", [attacks.fgsm, attacks.pgd])
@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"epsilon": -0.1}, "epsilon"),
        ({"epsilon": 8}, "did you mean 8/255"),
        ({"epsilon": math.nan}, "epsilon"),
        ({"epsilon": 0.3, "loss": "hinge"}, "loss must be one of cross_entropy, margin"),
    ],
)
def test_bad_options(attack, options, message):
    images, labels = toys.batch(2)
    with pytest.raises(ValueError, match=message):
        attack(toys.classifier(), images, labels, **options)


@pytest.mark.parametrize(
    "options",
    [
        {"steps": 0},
        {"restarts": 0},
        {"steps": 2.5},
        # With these the attack would silently find nothing and report clean accuracy.
        {"step_size": math.nan},
        {"step_size": -0.1},
        {"step_size": 0.0},
    ],
)
def test_bad_options_of_pgd(options):
    images, labels = toys.batch(2)
    with pytest.raises(ValueError, match=next(iter(options))):
        attacks.pgd(toys.classifier(), images, labels, epsilon=0.3, **options)


@pytest.mark.parametrize("number", [np.float32(0.25), np.float64(0.25), 1, 0])
def test_numpy_and_whole_numbers_are_radii(number):
    images, labels = toys.batch(2)
    adversarial = attacks.fgsm(toys.classifier(), images, labels, epsilon=number)
    expected = attacks.fgsm(toys.classifier(), images, labels, epsilon=float(number))
    np.testing.assert_array_equal(adversarial, expected)


@pytest.mark.parametrize("attack", [attacks.fgsm, attacks.pgd])
def test_bad_images(attack):
    images, labels = toys.batch(4)
    model = toys.classifier()
    for bad_images, bad_labels, message in (
        (images * 255, labels, r"\[0, 1\]"),
        ((images * 255).astype(np.int32), labels, "int32. Divide 8-bit pixels by 255"),
        (np.where(images > 2, 0, np.nan).astype(np.float32), labels, r"\[0, 1\]"),
        (images, labels + 3, r"0\.\.2"),
        (images, labels[:3], "differ in number"),
    ):
        with pytest.raises(ValueError, match=message) as error:
            attack(model, bad_images, bad_labels, epsilon=0.1)
        assert "\n" not in str(error.value)
