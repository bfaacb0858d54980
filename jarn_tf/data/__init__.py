"""Datasets as arrays, and as `tf.data` of (image float32 in [0, 1], label int32)."""

from __future__ import annotations

from jarn_tf import arguments
from jarn_tf.data import digits, folder, npz, prepared
from jarn_tf.data.batches import batches, steps_per_epoch, training_batches
from jarn_tf.data.split import Dataset, Split

__all__ = ["Dataset", "Split", "batches", "load", "steps_per_epoch", "training_batches"]


def load(
    name: str,
    data_dir: str | None = None,
    train_examples: int | None = None,
    test_examples: int | None = None,
    image_size: int | None = None,
    memory_share: float = 0.5,
    test_only: bool = False,
) -> Dataset:
    """Loads a dataset, into memory where it fits.

    Args:
        name: `"digits"`: scikit-learn's 1,797 handwritten digits resized to 28x28, 80 % for
            training and 20 % for testing, stratified, always the same.

            `"mnist"`, `"svhn"` and `"cifar10"` come through TensorFlow Datasets, which downloads
            what is not prepared; `"tfds:NAME"` is any other of its image classification sets.

            `"folder:DIR"`: pictures in a folder a class, or `train/` and `test/` (or `val/`) above
            such folders, as `keras.utils.image_dataset_from_directory` has them; of one channel if
            all are grey, else of three.

            `"npz:FILE"`: a NumPy archive of `x_train`, `y_train`, `x_test` and `y_test`.

            Where there is no test split, 20 % of the images are it, always the same ones, of a
            folder stratified. Images of a folder or an archive come in a fixed random order.
        data_dir: TFDS folder; None for the variable `TFDS_DATA_DIR`, else TFDS's default.
        train_examples: Use the first so many training images; None for all.
        test_examples: Use the first so many validation and test images; None for all.
        image_size: Height and width that `folder:` and `tfds:` images are brought to: the middle
            square, scaled. None for images that are of one size.
        memory_share: Share of the free memory that the images may take, in [0, 1]; beyond it they
            are streamed from a temporary file, in the same order.
        test_only: Whether to leave the images of the other splits unread, which are empty then; the
            digits have all.

    Raises:
        FileNotFoundError: The dataset is not prepared and there is no network, or no such file.
        ValueError: An unknown name, a count below 1, a dataset that is damaged or incomplete, or
            whose images are not of one size.
        OSError: Neither memory nor the folder for temporary files has room.
    """
    arguments.dataset("dataset", name)
    arguments.fraction("memory_share", memory_share)
    for what, count in (
        ("train_examples", train_examples),
        ("test_examples", test_examples),
        ("image_size", image_size),
    ):
        if count is not None:
            arguments.whole(what, count)
    arguments.image_size(image_size, name)
    kind, _, source = name.partition(":")
    if kind == "digits":
        train, test, classes = digits.load()
    elif kind == "folder":
        train, test, classes = folder.load(source, image_size, memory_share, test_only)
    elif kind == "npz":
        train, test, classes = npz.load(source, memory_share, test_only)
    else:
        train, test, classes = prepared.load(name, data_dir, image_size, memory_share, test_only)
    held_out = len(train) // 10
    if not len(test) or not (held_out or test_only):
        raise ValueError(
            f"{name} must have 10 training images and a test image at least. Received: "
            f"{len(train)} and {len(test)}."
        )
    fitted = Split(train.images[: len(train) - held_out], train.labels[: len(train) - held_out])
    validation = Split(train.images[len(fitted) :], train.labels[len(fitted) :])
    return Dataset(
        fitted.first(train_examples),
        validation.first(test_examples),
        test.first(test_examples),
        classes,
    )
