"""Two logical CPUs for the whole process, so that 2 replicas run in it; shared small runs.

Nearly all the time of the tests goes into tracing and compiling, so that is kept short.
"""

import fcntl
import gc
import json
import os
import types
import zlib

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")  # as the commands do
os.environ.setdefault("TF_NUM_INTRAOP_THREADS", "1")  # a test process runs on each core
os.environ.setdefault("TF_NUM_INTEROP_THREADS", "1")

import commands
import keras
import numpy as np
import pytest
import tensorflow as tf
import toys
from hypothesis import settings

tf.config.set_logical_device_configuration(
    tf.config.list_physical_devices("CPU")[0], [tf.config.LogicalDeviceConfiguration()] * 2
)
# Graphs of toys run no faster when optimised, and the commands below run optimised ones.
tf.config.optimizer.set_experimental_options({"disable_meta_optimizer": True})
# The same examples in every run of the suite, and few; `make fuzz` draws many.
settings.register_profile("suite", derandomize=True, max_examples=10, deadline=None, database=None)
settings.register_profile("fuzz", max_examples=1000, deadline=None, print_blob=True)
settings.load_profile("suite")
gc.disable()  # traces are millions of objects: they are looked through once a file, see below

from jarn_tf import data  # noqa: E402
from jarn_tf.evaluation import Attack  # noqa: E402
from jarn_tf.reproduction import models  # noqa: E402
from jarn_tf.runs import training  # noqa: E402
from jarn_tf.runs.config import declarations  # noqa: E402
from jarn_tf.runs.presets import preset  # noqa: E402

#: JARN on 256 digits for 4 epochs of 4 steps, its phase from step 4 on.
TINY = {
    "epochs": "4",
    "batch_size": "64",
    "train_examples": "256",
    "test_examples": "64",
    "discriminator_filters": "4,8",
    "adaptor_trainable": "true",
    "epsilon": "8/255",
    "keep_best_robust": "true",
}


@pytest.fixture(scope="module", autouse=True)
def _collect_garbage():
    yield
    gc.collect()


@pytest.fixture
def eagerly():
    """Nothing is traced, where each shape and option would be anew."""
    tf.config.run_functions_eagerly(True)
    yield
    tf.config.run_functions_eagerly(False)


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
    """The settings of `TINY`."""
    kinds = {name: declared.kind for name, declared in declarations().items()}
    return preset(**{name: kinds[name].parse(text) for name, text in TINY.items()})


@pytest.fixture(scope="session")
def run_dir(tiny_config, tmp_path_factory):
    """The folder of a finished run of `tiny_config`; read it, copy it to change it.

    Trained by the command, and once for all the processes that run tests.
    """
    flags = [f"--{name}={text}" for name, text in TINY.items()]
    return once(tmp_path_factory, "run", "train", *flags, folder_flag="workdir")


@pytest.fixture(scope="session")
def finished(tmp_path_factory):
    """The folder of an unbroken Table 1 of digits with two trained models; read it only."""
    flags = ("--experiment=table1", "--dataset=digits", "--scale=smoke", "--rows=standard,jarn")
    return once(tmp_path_factory, "reproduced", "reproduce", *flags, folder_flag="output")


@pytest.fixture
def output(finished, tmp_path):
    """A folder of one's own that shares the trained models."""
    (tmp_path / "models").symlink_to(finished / "models")
    return tmp_path


def once(tmp_path_factory, name, *command, folder_flag):
    """The folder that a command writes; what it prints lies beside it in `stdout`."""
    place = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        place = place.parent  # which all processes share
    place = place / name
    place.mkdir(exist_ok=True)
    with open(place / "lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (place / "stdout").exists():
            done = commands.launch(*command, f"--{folder_flag}={place / 'made'}")
            (place / "stdout").write_text(done.stdout)
    return place / "made"


@pytest.fixture
def no_training(monkeypatch):
    monkeypatch.setattr(training, "train", lambda *args: pytest.fail("trained"))


@pytest.fixture
def played(monkeypatch):
    """Training that takes no time and ends with made-up accuracies: config to name to share."""
    found = {}

    def train(run, workdir, list_of_attacks):
        rng = np.random.default_rng(zlib.crc32(repr(run).encode()))
        rows = [attack.row() for attack in list_of_attacks]
        rows += [Attack("clean", 0.0).row() | {"name": name} for name in ("clean", "worst_case")]
        for row in rows:
            row |= {"accuracy": rng.random(), "seconds": 1.0}
        found[run] = {row["name"]: row["accuracy"] for row in rows}
        workdir.mkdir(parents=True)
        (workdir / "config.json").write_text(json.dumps({"config": run.as_dict()}))
        evaluated = {
            "examples": 32, "attacks": rows, "collapsed_to_class": None, "saliency": toys.SALIENCY,
        }  # fmt: skip
        (workdir / "evaluation.json").write_text(json.dumps(evaluated))
        (workdir / "history.csv").write_text(
            "epoch,val_robust_accuracy\n"
            + "".join(f"{epoch},{rng.random()}\n" for epoch in range(run.epochs))
        )

    monkeypatch.setattr(training, "train", train)
    no_images = types.SimpleNamespace(test=range(32), classes=10)
    monkeypatch.setattr(models, "dataset", lambda setting: no_images)
    return found
