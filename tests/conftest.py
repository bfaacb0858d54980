"""Two logical CPUs for the whole process, so that 2 replicas run in it; shared small runs."""

import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import numpy as np
import pytest
import tensorflow as tf

tf.config.set_logical_device_configuration(
    tf.config.list_physical_devices("CPU")[0], [tf.config.LogicalDeviceConfiguration()] * 2
)

from jarn_tf import data  # noqa: E402
from jarn_tf.runs import training  # noqa: E402
from jarn_tf.runs.presets import preset  # noqa: E402


@pytest.fixture
def rng():
    return np.random.default_rng(0)


@pytest.fixture(scope="session")
def two_replicas():
    """One for the process, as two would share the keys of TensorFlow's collective operations."""
    return tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])


@pytest.fixture(scope="session")
def digits():
    return data.load("digits")


@pytest.fixture(scope="session")
def digits_classifier(digits):
    """A small classifier that is right about most digits."""
    keras.utils.set_random_seed(0)
    model = keras.Sequential(
        [
            keras.Input((28, 28, 1)),
            keras.layers.Conv2D(8, 5, strides=3, activation="relu"),
            keras.layers.Flatten(),
            keras.layers.Dense(10),
        ]
    )
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.Adam(0.01), loss)
    model.fit(digits.train.floats, digits.train.labels, batch_size=64, epochs=6, verbose=0)
    return model


@pytest.fixture(scope="session")
def tiny_config():
    """JARN on 256 digits for 4 epochs of 4 steps, its phase from step 4 on."""
    return preset(
        epochs=4,
        batch_size=64,
        train_examples=256,
        test_examples=64,
        discriminator_filters=(4, 8),
        adaptor_trainable=True,
        epsilon=0.1,
        keep_best_robust=True,
    )


@pytest.fixture(scope="session")
def run_dir(tiny_config, tmp_path_factory):
    """The folder of a finished run of `tiny_config`; read it, copy it to change it."""
    workdir = tmp_path_factory.mktemp("run") / "unbroken"
    training.train(tiny_config, workdir)
    return workdir
