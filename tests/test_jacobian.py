import keras
import numpy as np
import pytest
import tensorflow as tf
import toys

from jarn_tf import input_jacobian
from jarn_tf.jacobian import logits_and_jacobian

KINDS = ("loss", "softmax", "logit")


@pytest.fixture
def linear(rng):
    """(classifier, W, images, labels) in float64."""
    kernel = rng.normal(0, 0.3, (np.prod(toys.IMAGE_SHAPE), toys.CLASSES))
    images, labels = toys.batch(5)
    model = toys.linear_classifier(kernel, [0.1, -0.2, 0.3], dtype="float64")
    return model, kernel, images.astype(np.float64), labels


def softmax(logits):
    e = np.exp(logits - logits.max(axis=1, keepdims=True))
    return e / e.sum(axis=1, keepdims=True)


@pytest.mark.parametrize("of", KINDS)
def test_closed_form_of_a_linear_softmax_classifier(linear, of):
    model, kernel, images, labels = linear
    p = softmax(images.reshape(5, -1) @ kernel + [0.1, -0.2, 0.3])
    y = np.eye(toys.CLASSES)[labels]
    p_label = (p * y).sum(axis=1, keepdims=True)
    expected = {
        "loss": (p - y) @ kernel.T,  # Eq. 6
        "softmax": p_label * (y - p) @ kernel.T,
        "logit": y @ kernel.T,
    }[of]
    logits, jacobian = logits_and_jacobian(model, tf.constant(images), tf.constant(labels), of)
    np.testing.assert_allclose(softmax(logits.numpy()), p, rtol=1e-12)
    assert jacobian.shape == images.shape
    np.testing.assert_allclose(jacobian.numpy().reshape(5, -1), expected, rtol=0, atol=1e-14)


@pytest.mark.parametrize("of", KINDS)
def test_second_order_gradient_is_that_of_finite_differences(rng, of):
    """The gradient that JARN descends: of a function of J with respect to the weights."""
    model = keras.Sequential(
        [
            keras.Input(toys.IMAGE_SHAPE, dtype="float64"),
            keras.layers.Conv2D(2, 3, activation="tanh", dtype="float64"),
            keras.layers.Flatten(dtype="float64"),
            keras.layers.Dense(toys.CLASSES, dtype="float64"),
        ]
    )
    images, labels = toys.batch(4)
    images, labels = tf.constant(images, tf.float64), tf.constant(labels)
    mix = tf.constant(rng.normal(size=images.shape))

    def function_of_jacobian():
        jacobian = logits_and_jacobian(model, images, labels, of)[1]
        return tf.reduce_sum(mix * jacobian + jacobian**2)

    with tf.GradientTape() as tape:
        value = function_of_jacobian()
    weights = model.trainable_variables
    gradients = tape.gradient(value, weights)
    h = 1e-5
    for variable, gradient in zip(weights, gradients):
        if gradient is None:  # the last bias does not reach the gradient of a logit
            gradient = tf.zeros_like(variable)
        kept = variable.numpy()
        for index in list(np.ndindex(*kept.shape))[:: max(1, kept.size // 5)]:
            sides = []
            for sign in (1, -1):
                changed = kept.copy()
                changed[index] += sign * h
                variable.assign(changed)
                sides.append(float(function_of_jacobian()))
            variable.assign(kept)
            difference = (sides[0] - sides[1]) / (2 * h)
            np.testing.assert_allclose(gradient.numpy()[index], difference, rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize("of", KINDS)
def test_jacobian_of_an_image_does_not_depend_on_the_others(of):
    model = toys.classifier()
    images, labels = toys.batch(6)
    together = input_jacobian(model, images, labels, of).numpy()
    alone = [input_jacobian(model, images[i : i + 1], labels[i : i + 1], of)[0] for i in range(6)]
    np.testing.assert_allclose(together, alone, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("of", KINDS)
def test_one_hot_labels_are_integer_labels(of):
    model = toys.classifier()
    images, labels = toys.batch(6)
    one_hot = np.eye(toys.CLASSES, dtype=np.float32)[labels]
    np.testing.assert_array_equal(
        input_jacobian(model, images, labels, of), input_jacobian(model, images, one_hot, of)
    )


def test_jacobian_is_that_of_inference_mode():
    model = keras.Sequential(
        [
            keras.Input(toys.IMAGE_SHAPE),
            keras.layers.Flatten(),
            keras.layers.Dropout(0.5),
            keras.layers.BatchNormalization(),
            keras.layers.Dense(toys.CLASSES),
        ]
    )
    before = model.get_weights()
    images, labels = toys.batch(6)
    with tf.GradientTape() as tape:
        x = tf.constant(images)
        tape.watch(x)
        log_p = tf.nn.log_softmax(model(x, training=False))
        value = -tf.reduce_sum(tf.gather(log_p, labels, batch_dims=1))
    expected = tape.gradient(value, x)
    np.testing.assert_allclose(input_jacobian(model, images, labels), expected, atol=1e-6)
    for a, b in zip(model.get_weights(), before):
        np.testing.assert_array_equal(a, b)


def test_unknown_kind():
    images, labels = toys.batch(2)
    with pytest.raises(ValueError, match="jacobian_of must be one of loss, softmax, logit"):
        input_jacobian(toys.classifier(), images, labels, "logits")


@pytest.mark.parametrize("training", [False, True])
def test_the_mode_of_the_classifier_is_as_told(training):
    """Batch normalisation of a batch or, untrained, of mean 0 and variance 1."""
    norm = keras.layers.BatchNormalization(epsilon=0.0)
    model = keras.Sequential([keras.Input((1, 1, 2)), norm, keras.layers.Flatten()])
    images = np.float32([[0.0, 0.2], [1.0, 0.4], [0.5, 0.9]])
    logits, _ = logits_and_jacobian(
        model, tf.constant(images[:, None, None]), tf.constant([0, 1, 0]), training=training
    )
    expected = (images - images.mean(axis=0)) / images.std(axis=0) if training else images
    np.testing.assert_allclose(logits, expected, rtol=1e-5)
