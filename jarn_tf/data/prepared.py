"""Datasets that TensorFlow Datasets prepares."""

from __future__ import annotations

import math
import os
import socket
import threading
import urllib.parse

import tensorflow as tf

from jarn_tf.data import store
from jarn_tf.data.split import Split

#: Dataset name to TFDS name, and a host that TFDS downloads it from.
_TFDS = {
    "mnist": ("mnist", "storage.googleapis.com"),
    "svhn": ("svhn_cropped", "ufldl.stanford.edu"),
    "cifar10": ("cifar10", "www.cs.toronto.edu"),
}
_SECONDS_TO_FIND_NETWORK = 10
_READ_AT_ONCE = 256


def load(
    name: str,
    data_dir: str | None,
    image_size: int | None,
    memory_share: float,
    test_only: bool,
) -> tuple[Split, Split, int]:
    """Training split, test split and number of classes of one of `_TFDS`, or of `tfds:NAME`."""
    # Imported here: it takes seconds, and the default dataset does not need it.
    import tensorflow_datasets as tfds

    tfds_name, host = _TFDS.get(name) or (name.removeprefix("tfds:"), "storage.googleapis.com")
    try:
        builder = tfds.builder(tfds_name, data_dir=data_dir)
    except tfds.core.DatasetNotFoundError:
        raise ValueError(
            f"TensorFlow Datasets knows no dataset {tfds_name!r}. Its names stand at "
            "https://www.tensorflow.org/datasets/catalog."
        ) from None
    classes, image_shape = _labelled_images(name, builder, image_size)
    if not builder.is_prepared():
        _prepare(name, builder, host)
    held_out = next((split for split in ("test", "validation") if split in builder.info.splits), "")
    names = ("train", held_out) if held_out else ("train[:80%]", "train[80%:]")
    counts = {split: builder.info.splits[split].num_examples for split in names}
    if test_only:
        del counts[names[0]]
    kept = store.Store(sum(counts.values()) * math.prod(image_shape), memory_share)
    *train, test = (
        _complete(name, builder, split, kept, count, image_shape) for split, count in counts.items()
    )
    return *(train or [test.first(0)]), test, classes


def _labelled_images(
    name: str, builder, image_size: int | None
) -> tuple[int, tuple[int, int, int]]:
    """Number of classes, and the shape that images will have."""
    import tensorflow_datasets as tfds

    features = dict(builder.info.features.items())
    image, label = (features.get(key) for key in builder.info.supervised_keys or ("", ""))
    if not isinstance(image, tfds.features.Image) or not isinstance(
        label, tfds.features.ClassLabel
    ):
        raise ValueError(
            f"{name} is no image classification set: it has no pair of an image and a class. "
            f"Received features {', '.join(features)}."
        )
    *sizes, channels = image.shape
    if image_size is not None:
        sizes = [image_size, image_size]
    if None in sizes:
        raise ValueError(f"The images of {name} are of several sizes. Give --image_size.")
    return label.num_classes, (*sizes, channels)


def _complete(
    name: str, builder, split: str, kept: store.Store, count: int, image_shape: tuple
) -> Split:
    """A split's examples; ValueError unless there are as many as its metadata say."""
    import tensorflow_datasets as tfds

    options = tf.data.Options()
    options.autotune.enabled = False  # it takes longer to tune the reading than to read once
    examples = builder.as_dataset(
        split=split, as_supervised=True, read_config=tfds.ReadConfig(options=options)
    )
    examples = examples.map(lambda image, label: (_sized(image, image_shape), label))
    try:
        return kept.split(tfds.as_numpy(examples.batch(_READ_AT_ONCE)), count, image_shape)
    except (tf.errors.OpError, ValueError) as error:  # TFDS counts the examples, too
        what = str(error).splitlines()[0].rpartition("}} ")[2]
        raise ValueError(
            f"The prepared dataset {name} in {builder.data_dir} cannot be read: {what}. Delete "
            "that folder and prepare it again."
        ) from None


def _sized(image: tf.Tensor, image_shape: tuple[int, int, int]) -> tf.Tensor:
    """The middle square of an image, scaled; the image itself where it has the shape."""
    if image.shape == image_shape:
        return image
    size = tf.reduce_min(tf.shape(image)[:2])
    square = tf.image.resize_with_crop_or_pad(image, size, size)
    scaled = tf.image.resize(square, image_shape[:2], antialias=True)
    return tf.cast(tf.clip_by_value(tf.round(scaled), 0, 255), tf.uint8)


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
    try:
        builder.download_and_prepare()
    except AssertionError as error:  # what TFDS raises where files have to be put there by hand
        raise FileNotFoundError(
            f"Dataset {name} cannot be downloaded: {' '.join(str(error).split())}"
        ) from None


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
