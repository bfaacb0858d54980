"""Tiny networks and data, and how to compare two models."""

import keras
import numpy as np

IMAGE_SHAPE = (6, 6, 2)
CLASSES = 3
#: As `evaluation.saliency` returns it.
SALIENCY = {
    "alignment": 0.1, "linearised_robustness": None, "zero_gradients": 0.0,
    "zero_gradient_entries": 0.0, "jacobian_image_correlation": {"loss": 0.0, "logit": 0.0},
}  # fmt: skip


def classifier(seed=0, kernel_regularizer=None, image_shape=IMAGE_SHAPE, classes=CLASSES):
    """Smooth (tanh), so that second derivatives do not vanish."""
    keras.utils.set_random_seed(seed)
    return keras.Sequential(
        [
            keras.Input(image_shape),
            keras.layers.Conv2D(4, 3, activation="tanh", kernel_regularizer=kernel_regularizer),
            keras.layers.Flatten(),
            keras.layers.Dense(classes, kernel_initializer=keras.initializers.RandomNormal(0, 0.3)),
        ]
    )


def linear_classifier(kernel, bias=0.0, image_shape=IMAGE_SHAPE, dtype="float32"):
    """Logits x W + b with the given W [pixels, classes]."""
    model = keras.Sequential(
        [
            keras.Input(image_shape, dtype=dtype),
            keras.layers.Flatten(dtype=dtype),
            keras.layers.Dense(kernel.shape[1], dtype=dtype),
        ]
    )
    model.set_weights([kernel, np.broadcast_to(bias, kernel.shape[1])])
    return model


def adaptor(seed=1, kernel_regularizer=None):
    keras.utils.set_random_seed(seed)
    return keras.Sequential(
        [
            keras.Input(IMAGE_SHAPE),
            keras.layers.Conv2D(
                IMAGE_SHAPE[-1], 1, activation="tanh", kernel_regularizer=kernel_regularizer
            ),
        ]
    )


def discriminator(seed=2, batch_norm=False, kernel_regularizer=None):
    keras.utils.set_random_seed(seed)
    return keras.Sequential(
        [
            keras.Input(IMAGE_SHAPE),
            keras.layers.Conv2D(4, 3, strides=2, kernel_regularizer=kernel_regularizer),
            *([keras.layers.BatchNormalization(momentum=0.9)] if batch_norm else []),
            keras.layers.LeakyReLU(0.1),
            keras.layers.Flatten(),
            keras.layers.Dense(1, kernel_initializer=keras.initializers.RandomNormal(0, 0.5)),
        ]
    )


def batch(n, seed=0, image_shape=IMAGE_SHAPE, classes=CLASSES):
    """Images float32 in [0, 1] with some pixels at 0 and at 1, and labels int32."""
    rng = np.random.default_rng(seed)
    images = np.clip(rng.uniform(-0.1, 1.1, (n, *image_shape)), 0, 1).astype(np.float32)
    return images, rng.integers(0, classes, n).astype(np.int32)


def arrays(variables):
    return [np.array(v) for v in variables]


def state(model):
    """Every weight of a model's networks and of their optimizers, as arrays."""
    networks = [n for n in ("classifier", "adaptor", "discriminator") if hasattr(model, n)]
    found = {}
    for name in networks:
        for i, v in enumerate(getattr(model, name).weights):
            found[f"{name}/{i}"] = np.array(v)
        for i, v in enumerate(getattr(model, f"{name}_optimizer").variables):
            found[f"{name}_optimizer/{i}"] = np.array(v)
    return found


def assert_same(actual, expected, **tolerance):
    """Two results of `state` agree: exactly, or within rtol and atol."""
    assert actual.keys() == expected.keys()
    for name in expected:
        if tolerance:
            np.testing.assert_allclose(actual[name], expected[name], err_msg=name, **tolerance)
        else:
            np.testing.assert_array_equal(actual[name], expected[name], err_msg=name)


def moved(before, after):
    """Names of what differs between two results of `state`."""
    return {name for name in before if not np.array_equal(before[name], after[name])}


def fit_at_rest(model, *watching, epochs=3, images=None):
    """Plain Keras, with rates of 0; 2 steps an epoch."""
    optimizers = [keras.optimizers.SGD(0.0) for _ in model.OPTIMIZERS]
    model.compile(*optimizers, run_eagerly=True)
    given, labels = batch(8)
    images = given if images is None else images
    model.fit(images, labels, batch_size=4, epochs=epochs, verbose=0, callbacks=list(watching))
