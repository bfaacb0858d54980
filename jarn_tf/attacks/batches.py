"""Attacks on any number of images, a few at once: what they take and what they return.

Every attack takes

* `images` and `labels` as arrays or tensors: images [n, height, width, channels], floating point in
  [0, 1] or `uint8` in 0 to 255, which is divided by 255; labels [n] or [n, 1], integers, or one-hot
  rows; or
* `images` alone, a finite `tf.data.Dataset` of batches `(images, labels)` of that kind. It is read
  once, and never held as a whole. Its own batch size does not matter.

Values of images at most 1e-6 outside [0, 1] are clipped; "the image" below is the clipped one.

Every attack returns one float32 array [n, height, width, channels], in the order of the images. So
many images as `batch_size` says are attacked at once. Beside the array returned, memory depends on
that number, not on n. Random numbers are a function of the seed and of the index of an image, so
the result does not depend on `batch_size` but by rounding: a network's logits may differ in their
last digits between batches of different sizes, and an attack that follows the sign of a gradient
can amplify that where the gradient is next to 0. (`square` and `autoattack` say what holds there.)

Arrays are checked as a whole before the first image is attacked, a dataset as it is read.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import keras
import numpy as np
import tensorflow as tf
import tqdm

from jarn_tf import arguments, checks
from jarn_tf.batches import slices
from jarn_tf.labels import as_integers

#: What attacks take for images.
Images = np.ndarray | tf.Tensor | tf.data.Dataset
Labels = np.ndarray | tf.Tensor | None


def in_batches(
    name: str,
    attack: Callable[[tf.Tensor, tf.Tensor, int], np.ndarray | tf.Tensor],
    classifier: keras.Model,
    images: Images,
    labels: Labels,
    batch_size: int,
    progress: bool,
    part: int | None = None,
) -> np.ndarray:
    """What an attack makes of all images, float32 [n, height, width, channels].

    Args:
        name: Name of the attack, shown before the bar.
        attack: The attack on a few images: from float32 images in [0, 1], int32 labels [n] and the
            index of the first of these images among all to their adversarial images.
        classifier, images, labels: As the module says.
        batch_size: Images that the classifier sees at once.
        progress: Whether to draw a progress bar on standard error, if that is a terminal and the
            attack is called more than once.
        part: Images that the attack is given at once; None for `batch_size`.

    Raises:
        ValueError: Bad images, labels, logits or batch size.
    """
    batch_size = arguments.whole("batch_size", batch_size)
    part = part or batch_size
    if isinstance(images, tf.data.Dataset):
        number, shape = None, ()
        parts = _of_dataset(classifier, images, labels, batch_size, part)
    else:
        images, labels = checks.batches(classifier, images, labels, batch_size)
        number, shape = len(images), images.shape[1:]
        parts = ((images[rows], labels[rows]) for rows in slices(number, part))
    shown = progress and (number is None or number > part)
    found, done = np.empty((number or 0, *shape), np.float32), 0
    with tqdm.tqdm(total=number, desc=name, leave=None, disable=None if shown else True) as bar:
        for some, of_some in parts:
            end = done + len(some)
            if number is None:  # in place where the system can, so that no second array is needed
                found.resize((end, *some.shape[1:]), refcheck=False)
            # Of one kind, as a compiled function may not tell the kinds apart.
            of_some = tf.constant(as_integers(of_some), tf.int32)
            with checks.as_value_error():
                found[done:end] = attack(checks.floats(some), of_some, done)
            bar.update(end - done)
            done = end
    return found


def _of_dataset(
    classifier, dataset, labels, batch_size, part
) -> Iterator[tuple[tf.Tensor, tf.Tensor]]:
    if labels is not None:
        raise ValueError("labels must be left out, as the tf.data.Dataset has them.")
    spec = dataset.element_spec
    if not (isinstance(spec, tuple) and [type(part) for part in spec] == [tf.TensorSpec] * 2):
        raise ValueError(f"The tf.data.Dataset must be of (images, labels). Received: {spec}.")
    if spec[0].shape.rank == 3 or 0 in (spec[0].shape.rank, spec[1].shape.rank):
        raise ValueError(
            "The tf.data.Dataset must be of batches. Received one of single images "
            f"{spec[0].shape} and labels {spec[1].shape}. Call its batch(n) first."
        )
    if dataset.cardinality() == tf.data.INFINITE_CARDINALITY:
        raise ValueError("The tf.data.Dataset never ends. Call its take(n) first.")
    empty = True
    for images, labels in dataset.rebatch(part):
        checks.batches(classifier, images, labels, batch_size)
        yield images, labels
        empty = False
    if empty:
        raise ValueError("There must be at least one image. Received: an empty tf.data.Dataset.")
