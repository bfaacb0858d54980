"""Datasets as arrays in memory, and as `tf.data` of (image float32 in [0, 1], label int32)."""

from __future__ import annotations

import dataclasses
import math
import os
import socket
import threading
import urllib.parse
from collections.abc import Iterable

import numpy as np
import sklearn.datasets
import sklearn.model_selection
import tensorflow as tf

from jarn_tf import arguments

#: Dataset name to TFDS name, and a host that TFDS downloads it from.
_TFDS = {
    "mnist": ("mnist", "storage.googleapis.com"),
    "svhn": ("svhn_cropped", "ufldl.stanford.edu"),
    "cifar10": ("cifar10", "www.cs.toronto.edu"),
}
_SECONDS_TO_FIND_NETWORK = 10


@dataclasses.dataclass(frozen=True)
class Split:
    """Images uint8 [n, height, width, channels] in 0..255 and labels int32 [n]."""

    images: np.ndarray
    labels: np.ndarray

    def first(self, n: int | None) -> Split:
        """The first n examples; all where n is None."""
        return Split(self.images[:n], self.labels[:n])

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def floats(self) -> np.ndarray:
        """The images as float32 in [0, 1]."""
        return self.images.astype(np.float32) / np.float32(255)


@dataclasses.dataclass(frozen=True)
class Dataset:
    """The last tenth of the training images is the validation split; the test split is apart."""

    train: Split
    validation: Split
    test: Split
    classes: int

    @property
    def image_shape(self) -> tuple[int, int, int]:
        return self.train.images.shape[1:]


def load(
    name: str,
    data_dir: str | None = None,
    train_examples: int | None = None,
    test_examples: int | None = None,
) -> Dataset:
    """Loads a dataset into memory.

    Args:
        name: `"digits"`: scikit-learn's 1,797 handwritten digits resized to 28x28, 80 % for
            training and 20 % for testing, stratified, always the same. `"mnist"`, `"svhn"` and
            `"cifar10"` come through TensorFlow Datasets, which downloads what is not prepared.
        data_dir: TFDS folder; None for the variable `TFDS_DATA_DIR`, else TFDS's default.
        train_examples: Use the first so many training images; None for all.
        test_examples: Use the first so many validation and test images; None for all.

    Raises:
        FileNotFoundError: The dataset is not prepared and there is no network.
        ValueError: An unknown name, a count below 1, or a prepared dataset that is damaged or
            incomplete.
    """
    arguments.one_of("dataset", name, arguments.DATASETS)
    for what, count in (("train_examples", train_examples), ("test_examples", test_examples)):
        if count is not None:
            arguments.whole(what, count)
    train, test, classes = _digits() if name == "digits" else _tfds(name, data_dir)
    held_out = len(train) // 10
    fitted = Split(train.images[: len(train) - held_out], train.labels[: len(train) - held_out])
    validation = Split(train.images[len(fitted) :], train.labels[len(fitted) :])
    return Dataset(
        fitted.first(train_examples),
        validation.first(test_examples),
        test.first(test_examples),
        classes,
    )


def batches(split: Split, batch_size: int) -> tf.data.Dataset:
    """Every example once, in order, in batches of nearly equal size, at most `batch_size`."""
    # Nearly equal, because with several replicas a last batch of one image would leave a replica
    # with none, which TensorFlow's convolutions on CPU refuse.
    batch_size = math.ceil(len(split) / math.ceil(len(split) / batch_size))
    dataset = tf.data.Dataset.from_tensor_slices((split.images, split.labels)).batch(batch_size)
    return dataset.map(lambda images, labels: (_floats(images), labels)).prefetch(tf.data.AUTOTUNE)


def steps_per_epoch(split: Split, batch_size: int) -> int:
    """Full batches in a split. ValueError if there is none."""
    if batch_size > len(split):
        raise ValueError(
            f"The batch is larger than the training set. Received: batch_size={batch_size} and "
            f"{len(split)} training images. Use a batch_size of at most {len(split)}."
        )
    return len(split) // batch_size


def training_batches(
    split: Split,
    batch_size: int,
    seed: int,
    first_step: int,
    last_step: int,
    augment: bool = False,
) -> tf.data.Dataset:
    """Batches number first_step to last_step - 1 of a run, each a pure function of (seed, step).

    Each epoch is another permutation of the examples; the remainder that fills no batch is left
    out of that epoch.

    Args:
        split: The training images.
        batch_size: Images a batch, at most `len(split)`.
        seed: Seed of order and augmentation.
        first_step: Number of the first batch, counted from the run's beginning.
        last_step: Number after the last batch.
        augment: Shift by up to 4 pixels and mirror at random.

    Raises:
        ValueError: The batch is larger than the split.
    """
    per_epoch = steps_per_epoch(split, batch_size)
    images, labels = tf.constant(split.images), tf.constant(split.labels)

    def batch(step):
        epoch, position = step // per_epoch, step % per_epoch
        key = tf.random.experimental.stateless_fold_in([seed, 1], epoch)
        places = position * batch_size + tf.range(batch_size, dtype=tf.int64)
        chosen = tf.random.experimental.index_shuffle(places, key, len(split) - 1)
        taken = _floats(tf.gather(images, chosen))
        if augment:
            taken = _augmented(taken, tf.random.experimental.stateless_fold_in([seed, 2], step))
        return taken, tf.gather(labels, chosen)

    steps = tf.data.Dataset.range(first_step, last_step)
    return steps.map(batch, num_parallel_calls=tf.data.AUTOTUNE).prefetch(tf.data.AUTOTUNE)


def _floats(images: tf.Tensor) -> tf.Tensor:
    return tf.cast(images, tf.float32) / 255.0


def _augmented(images: tf.Tensor, key: tf.Tensor) -> tf.Tensor:
    """Zero padding of 4 pixels, a random crop of the old size, a random mirror image."""
    padded = tf.pad(images, [[0, 0], [4, 4], [4, 4], [0, 0]])
    corners = tf.random.stateless_uniform([len(images), 2], key, 0, 9, tf.int32)
    height, width = images.shape[1:3]
    rows = corners[:, :1] + tf.range(height)
    columns = corners[:, 1:] + tf.range(width)
    cropped = tf.gather(tf.gather(padded, rows, batch_dims=1), columns, axis=2, batch_dims=1)
    return tf.image.stateless_random_flip_left_right(cropped, key)


def _digits() -> tuple[Split, Split, int]:
    images, labels = sklearn.datasets.load_digits(return_X_y=True)
    images = tf.image.resize(images.reshape(-1, 8, 8, 1) / 16, (28, 28)).numpy()
    images = np.round(images * 255).astype(np.uint8)
    train_images, test_images, train_labels, test_labels = sklearn.model_selection.train_test_split(
        images, labels.astype(np.int32), test_size=0.2, stratify=labels, random_state=0
    )
    return Split(train_images, train_labels), Split(test_images, test_labels), 10


def _tfds(name: str, data_dir: str | None) -> tuple[Split, Split, int]:
    # Imported here: it takes seconds, and the default dataset does not need it.
    import tensorflow_datasets as tfds

    tfds_name, host = _TFDS[name]
    builder = tfds.builder(tfds_name, data_dir=data_dir)
    try:
        splits = builder.as_dataset(split=["train", "test"], as_supervised=True)
    except AssertionError:  # what TFDS raises for a dataset that is not prepared
        _prepare(name, builder, host)
        splits = builder.as_dataset(split=["train", "test"], as_supervised=True)
    train, test = (
        _complete(name, builder, split, tfds.as_numpy(dataset.batch(1024)))
        for split, dataset in zip(("train", "test"), splits)
    )
    return train, test, builder.info.features["label"].num_classes


def _complete(name: str, builder, split: str, arrays: Iterable) -> Split:
    """The split's examples; ValueError unless there are as many as its metadata say."""
    try:
        images, labels = zip(*arrays)
    except (tf.errors.DataLossError, ValueError) as error:
        raise ValueError(
            f"The prepared dataset {name} in {builder.data_dir} cannot be read: "
            f"{str(error).splitlines()[0]}. Delete that folder and prepare it again."
        ) from None
    loaded = Split(np.concatenate(images), np.concatenate(labels).astype(np.int32))
    if split in builder.info.splits and len(loaded) != builder.info.splits[split].num_examples:
        raise ValueError(
            f"The prepared dataset {name} in {builder.data_dir} is incomplete: {len(loaded)} of "
            f"{builder.info.splits[split].num_examples} {split} images. Delete that folder and "
            "prepare it again."
        )
    return loaded


def _prepare(name: str, builder, host: str) -> None:
    """Downloads and prepares a dataset, or says within seconds that it cannot."""
    if not _reachable(host):
        raise FileNotFoundError(
            f"Dataset {name} is not prepared in {builder.data_dir} and {host} cannot be reached to "
            "download it. Connect to a network, or name a folder that holds it with --data_dir "
            "or TFDS_DATA_DIR, or use --dataset=digits, which needs neither."
        )
    if name == "svhn":
        _leave_out_extra(builder)
    builder.download_and_prepare()


def _reachable(host: str) -> bool:
    """Whether a connection to the host, or to the proxy set for it, opens within seconds."""
    address = (host, 443)
    proxy = os.environ.get("https_proxy") or os.environ.get("HTTPS_PROXY")
    if proxy:
        parts = urllib.parse.urlsplit(proxy if "//" in proxy else f"//{proxy}")
        address = (parts.hostname, parts.port or 80)
    found = threading.Event()

    def connect():
        try:
            socket.create_connection(address, timeout=_SECONDS_TO_FIND_NETWORK).close()
            found.set()
        except OSError:
            pass

    # In a thread, because looking up a name can hang for longer than any connection timeout.
    thread = threading.Thread(target=connect, daemon=True)
    thread.start()
    thread.join(_SECONDS_TO_FIND_NETWORK)
    return found.is_set()


def _leave_out_extra(builder) -> None:
    """Keeps TFDS from fetching SVHN's `extra` split, 1.3 GB that the paper does not use."""
    split_generators = builder._split_generators

    class WithoutExtra:
        def __init__(self, manager):
            self.manager = manager

        def download(self, urls):
            wanted = {split: url for split, url in urls.items() if split != "extra"}
            return {**self.manager.download(wanted), "extra": None}

    def train_and_test(dl_manager):
        return [g for g in split_generators(WithoutExtra(dl_manager)) if g.name != "extra"]

    builder._split_generators = train_and_test
