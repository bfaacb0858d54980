"""`compile` as Keras users know it."""

import keras
import numpy as np
import pytest
import tensorflow as tf
import toys

from jarn_tf import JARN, Defense, InputGradientPenalty


def smoothed():
    return keras.losses.CategoricalCrossentropy(from_logits=True, label_smoothing=0.3)


@keras.saving.register_keras_serializable("test_compile")
def squared_error(labels, logits):
    """A function of one's own, on integer labels."""
    rows = tf.one_hot(tf.cast(labels, tf.int32), toys.CLASSES)
    return tf.reduce_sum((rows - logits) ** 2, axis=-1)


def data(one_hot):
    images, labels = toys.batch(12)
    return images, np.eye(toys.CLASSES, dtype=np.float32)[labels] if one_hot else labels


def jarn(**options):
    return JARN(toys.classifier(), toys.adaptor(), toys.discriminator(), **options)


LOSSES = {
    "smoothed": (smoothed, True),
    "function": (lambda: squared_error, False),
    "sparse": (lambda: keras.losses.SparseCategoricalCrossentropy(from_logits=True), False),
}


@pytest.mark.parametrize("kind", LOSSES)
@pytest.mark.parametrize("weighted", [False, True])
def test_a_loss_trains_as_in_stock_keras(kind, weighted):
    make, one_hot = LOSSES[kind]
    images, labels = data(one_hot)
    weights = np.linspace(0.2, 1.8, len(images)).astype(np.float32) if weighted else None
    stock, defense = toys.classifier(), Defense(toys.classifier())
    stock.compile(keras.optimizers.SGD(0.1), make())
    defense.compile(optimizer=keras.optimizers.SGD(0.1), loss=make())
    histories = [
        m.fit(images, labels, 4, 2, sample_weight=weights, shuffle=False, verbose=0).history
        for m in (stock, defense)
    ]
    for a, b in zip(toys.arrays(stock.weights), toys.arrays(defense.classifier.weights)):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(histories[0]["loss"], histories[1]["loss"], rtol=1e-4)
    assert defense.evaluate(images, labels, 4, verbose=0)[0] == pytest.approx(
        stock.evaluate(images, labels, 4, verbose=0), rel=1e-4
    )


@pytest.mark.parametrize("kind", LOSSES)
def test_gradient_penalties_are_of_the_loss(kind):
    """By central differences of the Keras loss at the image."""
    make, one_hot = LOSSES[kind]
    images, labels = data(one_hot)
    images, labels = images[:2], labels[:2]
    model = InputGradientPenalty(toys.classifier(), 0.0)
    model.compile("sgd", loss=make(), run_eagerly=True)
    found = model.train_on_batch(images, labels, return_dict=True)["penalty"]
    classifier = toys.classifier()

    def losses_of(x):
        loss = make()
        call = loss.call if isinstance(loss, keras.losses.Loss) else loss
        return call(labels, classifier(x)).numpy().astype(np.float64)

    squares, h = np.zeros(2), 1e-2
    for index in np.ndindex(*images.shape[1:]):
        step = np.zeros_like(images)
        step[(slice(None), *index)] = h
        squares += ((losses_of(images + step) - losses_of(images - step)) / (2 * h)) ** 2
    assert found == pytest.approx(squares.mean(), rel=1e-2)


def test_jarn_differentiates_the_loss():
    """Two losses, two Jacobians: the discriminator sees others, so it learns other weights."""
    images, labels = data(one_hot=True)
    found = []
    for loss in (None, smoothed()):
        model = jarn(perturb=None)
        model.compile("sgd", "sgd", keras.optimizers.SGD(0.5), loss=loss, run_eagerly=True)
        model.train_on_batch(images, labels)
        found.append(toys.arrays(model.discriminator.weights))
    assert any(not np.allclose(a, b) for a, b in zip(*found))


@pytest.mark.parametrize("kind", [None, *LOSSES])
def test_a_saved_model_keeps_its_loss(kind, tmp_path):
    make, one_hot = LOSSES[kind] if kind else (lambda: None, False)
    images, labels = data(one_hot)
    model = jarn()
    model.compile(loss=make())
    model.fit(images, labels, verbose=0)
    model.save(tmp_path / "model.keras")
    again = keras.models.load_model(tmp_path / "model.keras")
    expected = model.evaluate(images, labels, verbose=0, return_dict=True)
    found = again.evaluate(images, labels, verbose=0, return_dict=True)
    assert found == pytest.approx(expected, rel=1e-6)
    again.fit(images, labels, verbose=0)


@pytest.mark.parametrize("make", [lambda: Defense(toys.classifier()), jarn])
def test_optimizer_is_the_classifier_s(make):
    model = make()
    model.compile(optimizer=keras.optimizers.SGD(0.125))
    assert float(model.classifier_optimizer.learning_rate) == 0.125
    assert model.optimizer is model.classifier_optimizer
    model.compile()
    assert isinstance(model.classifier_optimizer, keras.optimizers.Adam)
    with pytest.raises(ValueError, match="Received both"):
        model.compile("adam", optimizer="sgd")
    shared = keras.optimizers.SGD()
    if isinstance(model, JARN):
        with pytest.raises(ValueError, match="optimizer of its own"):
            model.compile(optimizer=shared, adaptor_optimizer=shared)


@pytest.mark.parametrize(
    ("loss", "message"),
    [
        ("sparse_categorical_crossentropy", "from_logits=True"),
        (keras.losses.CategoricalCrossentropy(), "from_logits=True"),
        ("no_such_loss", "no_such_loss"),
    ],
)
def test_losses_of_probabilities_are_refused(loss, message):
    with pytest.raises(ValueError, match=message):
        Defense(toys.classifier()).compile(loss=loss)


@pytest.mark.parametrize("loss", [keras.losses.CategoricalCrossentropy(from_logits=True), "mse"])
def test_labels_that_a_loss_does_not_take_are_refused_in_one_line(loss):
    """Also of as many images as classes, where Keras would broadcast them."""
    model = Defense(toys.classifier())
    model.compile(loss=loss)
    images, labels = toys.batch(toys.CLASSES)
    with pytest.raises(ValueError, match="one-hot rows") as error:
        model.fit(images, labels[:, None], verbose=0)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("metrics", [None, ["accuracy"]])
def test_labels_of_another_kind_need_another_compile(metrics):
    images, rows = data(True)
    model = Defense(toys.classifier())
    model.compile(metrics=metrics)
    model.train_on_batch(images, rows.argmax(axis=-1))
    with pytest.raises(ValueError, match="compile") as error:
        model.train_on_batch(images, rows.astype(int))
    assert "\n" not in str(error.value)
    model.compile(metrics=metrics)
    model.train_on_batch(images, rows.astype(int))


def test_a_loss_without_a_value_for_each_image_is_refused():
    model = Defense(toys.classifier())
    model.compile(loss=lambda labels, logits: tf.reduce_mean(logits))
    with pytest.raises(ValueError, match="one value for each image"):
        model.fit(*data(False), verbose=0)
