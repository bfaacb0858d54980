"""The base of every defense. Cases with a `JARN` among them hold for it too."""

import math

import keras
import numpy as np
import pytest
import toys

from jarn_tf import JARN, Defense

KINDS = ("defense", "jarn")


def make(kind, classifier=None, rate=0.5, eager=True, **options):
    """Eager unless the test is about compiled steps: nothing is traced then, and that is quick."""
    classifier = classifier or toys.classifier()
    sgd = keras.optimizers.SGD
    if kind == "defense":
        model = Defense(classifier, **options)
        model.compile(sgd(rate), run_eagerly=eager)
    else:
        model = JARN(classifier, toys.adaptor(), toys.discriminator(), **options)
        model.compile(sgd(rate), sgd(rate), sgd(rate), run_eagerly=eager)
    return model


def fit(model, images, labels, weights=None, batch_size=8, epochs=1):
    return model.fit(
        images, labels, batch_size, epochs, sample_weight=weights, shuffle=False, verbose=0
    )


def weights_of(model):
    return toys.arrays(model.weights)


# Training


def test_without_perturbation_it_is_plain_keras_training():
    images, labels = toys.batch(20)  # batches of 8, 8 and 4
    regularizer = keras.regularizers.L2(0.01)
    plain = toys.classifier(kernel_regularizer=regularizer)
    plain.compile(
        keras.optimizers.SGD(0.5, momentum=0.9),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
    )
    expected = fit(plain, images, labels, epochs=2).history
    model = Defense(toys.classifier(kernel_regularizer=regularizer))
    model.compile(keras.optimizers.SGD(0.5, momentum=0.9))
    history = fit(model, images, labels, epochs=2).history
    for a, b in zip(weights_of(model.classifier), weights_of(plain)):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(history["accuracy"], expected["accuracy"])


def test_reported_loss_is_the_mean_over_the_examples_of_an_epoch():
    """Not the last batch's, and without the penalties of layers. Rate 0 keeps the weights."""
    images, labels = toys.batch(20)
    classifier = toys.classifier(kernel_regularizer=keras.regularizers.L2(0.1))
    model = make("defense", classifier, rate=0.0)
    logits = np.asarray(classifier(images), np.float64)
    per_image = np.log(np.exp(logits).sum(axis=1)) - logits[np.arange(20), labels]
    history = fit(model, images, labels).history
    np.testing.assert_allclose(history["loss"], [per_image.mean()], rtol=1e-5)
    np.testing.assert_allclose(model.evaluate(images, labels, 8, verbose=0)[0], per_image.mean())


def test_zero_sample_weights_leave_examples_out():
    """Keras divides the weighted sum by the batch size: 3 of 5 examples give 3/5 of the step."""
    images, labels = toys.batch(5)
    start = weights_of(toys.classifier())
    weighted, left_out = make("defense"), make("defense")
    fit(weighted, images, labels, np.array([1, 1, 1, 0, 0], np.float32))
    fit(left_out, images[:3], labels[:3])
    for w0, w, v in zip(start, weights_of(weighted), weights_of(left_out)):
        np.testing.assert_allclose(w - w0, 3 / 5 * (v - w0), rtol=1e-4, atol=1e-7)


def test_sample_weights_as_keras_counts_them():
    images, labels = toys.batch(20)
    weights = np.random.default_rng(0).uniform(0, 2, 20).astype(np.float32)
    plain, model = toys.classifier(), make("defense")
    plain.compile(
        keras.optimizers.SGD(0.5), keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    )
    fit(plain, images, labels, weights)
    fit(model, images, labels, weights)
    for a, b in zip(weights_of(model.classifier), weights_of(plain)):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("kind", KINDS)
def test_regularizer_of_a_layer_is_in_the_gradient(kind):
    """A penalty c |W|^2 adds -rate * 2 c W to the step."""
    images, labels = toys.batch(8)
    with_penalty = make(kind, toys.classifier(kernel_regularizer=keras.regularizers.L2(0.1)))
    without = make(kind)
    kernel = np.array(without.classifier.weights[0])
    fit(with_penalty, images, labels)
    fit(without, images, labels)
    difference = np.array(with_penalty.classifier.weights[0] - without.classifier.weights[0])
    np.testing.assert_allclose(difference, -0.5 * 2 * 0.1 * kernel, atol=1e-6)


def test_training_sees_perturbed_images_and_fresh_ones_each_step():
    seen = []

    def perturb(classifier, images, labels, batch):
        seen.append((int(batch.step), int(batch.total), images.numpy(), labels.numpy()))
        return 1 - images

    images, labels = toys.batch(12)
    model = Defense(toys.classifier(), perturb=perturb)
    model.compile(keras.optimizers.SGD(0.5), run_eagerly=True)
    fit(model, images, labels)
    assert [(step, total) for step, total, *_ in seen] == [(0, 8), (1, 4)]
    np.testing.assert_array_equal(np.concatenate([x for *_, x, _ in seen]), images)
    np.testing.assert_array_equal(np.concatenate([y for *_, y in seen]), labels)
    inverted = make("defense")
    fit(inverted, 1 - images, labels)
    for a, b in zip(weights_of(model.classifier), weights_of(inverted.classifier)):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("kind", KINDS)
def test_train_on_batch_is_fit_of_one_batch(kind):
    images, labels = toys.batch(8)
    by_fit, by_batch = make(kind), make(kind, eager=False)
    fit(by_fit, images, labels)
    by_batch.train_on_batch(images, labels)
    for a, b in zip(weights_of(by_batch), weights_of(by_fit)):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)
    loss = by_fit.evaluate(images, labels, verbose=0)[0]
    np.testing.assert_allclose(by_fit.test_on_batch(images, labels)[0], loss, rtol=1e-5)


# Evaluation


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("labels_as", ["integers", "column", "one_hot", "int64"])
def test_evaluate_predict_and_fit_take_labels_of_every_form(kind, labels_as):
    images, labels = toys.batch(10)
    given = {
        "integers": labels,
        "column": labels[:, None],
        "one_hot": np.eye(toys.CLASSES, dtype=np.float32)[labels],
        "int64": labels.astype(np.int64),
    }[labels_as]
    model, reference = make(kind), make(kind)
    logits = np.asarray(model.classifier(images), np.float64)
    cross_entropy = (np.log(np.exp(logits).sum(axis=1)) - logits[np.arange(10), labels]).mean()
    results = model.evaluate(images, given, batch_size=4, verbose=0, return_dict=True)
    np.testing.assert_allclose(results["loss"], cross_entropy, rtol=1e-5)
    np.testing.assert_allclose(results["accuracy"], (logits.argmax(axis=1) == labels).mean())
    np.testing.assert_allclose(model.predict(images, verbose=0), logits, atol=1e-5)
    fit(model, images, given)
    fit(reference, images, labels)
    for a, b in zip(weights_of(model), weights_of(reference)):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)


def test_call_and_evaluate_are_inference_unless_told():
    classifier = keras.Sequential(
        [
            keras.Input(toys.IMAGE_SHAPE),
            keras.layers.Flatten(),
            keras.layers.BatchNormalization(),
            keras.layers.Dense(toys.CLASSES),
        ]
    )
    images, labels = toys.batch(6)
    model = make("defense", classifier)
    logits = classifier(images, training=False)
    np.testing.assert_array_equal(model(images), logits)
    expected = keras.losses.sparse_categorical_crossentropy(labels, logits, from_logits=True)
    loss = model.evaluate(images, labels, verbose=0, return_dict=True)["loss"]
    assert loss == pytest.approx(np.mean(expected), rel=1e-5)
    assert np.abs(model(images, training=True) - logits).max() > 1e-3


# Bad input


@pytest.fixture(scope="module")
def models():
    """One model of each kind serves all bad batches, as none may change it."""
    return {kind: make(kind, eager=False) for kind in KINDS}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda x, y: (x * 255, y), "images must lie in"),
        (lambda x, y: (x - 0.5, y), "images must lie in"),
        (lambda x, y: (np.where(x == x.max(), np.nan, x), y), "images must lie in"),
        (lambda x, y: ((x * 255).astype(np.uint8), y), "floating point.*Divide 8-bit pixels"),
        (lambda x, y: (x, y + 1), r"labels must lie in 0\.\.2.*1.*3"),
        (lambda x, y: (x, y - 1), r"labels must lie in 0\.\.2"),
        (lambda x, y: (x, np.eye(5)[y]), r"one-hot rows \[batch, 3\]"),
        (lambda x, y: (x, y.astype(np.float32)), "must be integers"),
    ],
)
def test_bad_batches_are_refused_in_one_line(models, kind, spoil, message):
    images, labels = toys.batch(8)
    labels[:3] = 0, 1, 2
    model = models[kind]
    before = toys.state(model)
    with pytest.raises(ValueError, match=message) as error:
        fit(model, *spoil(images, labels))
    assert "\n" not in str(error.value)
    toys.assert_same(toys.state(model), before)


@pytest.mark.parametrize(
    "build",
    [
        lambda: keras.Sequential([keras.layers.Flatten(), keras.layers.Dense(3)]),  # not built
        lambda: keras.Sequential([keras.Input((8,)), keras.layers.Dense(3)]),  # no images
        lambda: keras.Sequential([keras.Input((6, 6, 2)), keras.layers.Conv2D(3, 3)]),
        lambda: toys.classifier(classes=1),
        lambda: "mnist_cnn",
    ],
)
def test_classifiers_that_do_not_fit(build):
    with pytest.raises(ValueError, match="classifier must"):
        Defense(build())


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_weights_that_are_not_finite_stop_training_before_the_first_update(kind, bad):
    images, labels = toys.batch(8)
    model = make(kind)
    model.classifier.weights[-1].assign([0.0, bad, 0.0])
    before = toys.state(model)
    with pytest.raises(ValueError, match="not finite.*step 0") as error:
        fit(model, images, labels)
    assert "\n" not in str(error.value)
    toys.assert_same(toys.state(model), before)


@pytest.mark.parametrize("eager", [False, True])
@pytest.mark.parametrize("kind", KINDS)
def test_a_loss_that_stops_being_finite_leaves_the_weights_of_the_step_before(kind, eager):
    images, labels = toys.batch(24)
    weights = np.ones(24, np.float32)
    weights[20] = np.nan  # in the third batch
    model, until_there = make(kind, eager=eager), make(kind)
    fit(until_there, images[:16], labels[:16])
    with pytest.raises(ValueError, match="not finite.*step 2"):
        fit(model, images, labels, weights)
    toys.assert_same(toys.state(model), toys.state(until_there), rtol=1e-5, atol=1e-6)
