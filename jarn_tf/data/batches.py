"""Splits as `tf.data` of (image float32 in [0, 1], label int32), in batches."""

from __future__ import annotations

import math

import tensorflow as tf

from jarn_tf.data.split import Split

#: AutoGraph would take most of a second to see that it has nothing to convert.
_AS_IT_IS = tf.autograph.experimental.do_not_convert


def batches(split: Split, batch_size: int) -> tf.data.Dataset:
    """Every example once, in order, in batches of nearly equal size, at most `batch_size`."""
    # Nearly equal, because with several replicas a last batch of one image would leave a replica
    # with none, which TensorFlow's convolutions on CPU refuse.
    batch_size = math.ceil(len(split) / math.ceil(len(split) / batch_size))
    places = tf.data.Dataset.range(len(split)).batch(batch_size)
    return places.map(_AS_IT_IS(lambda chosen: _taken(split, chosen))).prefetch(tf.data.AUTOTUNE)


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
    worker: tf.distribute.InputContext | None = None,
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
        worker: Of several workers or replicas, whose rows to give, as
            `tf.distribute.Strategy.distribute_datasets_from_function` says it: of each batch a
            piece for each of the worker's replicas, and no other row is read. None for whole
            batches.

    Raises:
        ValueError: The batch is larger than the split.
    """
    per_epoch = steps_per_epoch(split, batch_size)
    first, pieces = _pieces(batch_size, worker or tf.distribute.InputContext())
    rows = slice(first, first + sum(pieces))

    @_AS_IT_IS
    def batch(step):
        epoch, position = step // per_epoch, step % per_epoch
        key = tf.random.experimental.stateless_fold_in([seed, 1], epoch)
        places = position * batch_size + tf.range(rows.start, rows.stop, dtype=tf.int64)
        chosen = tf.random.experimental.index_shuffle(places, key, len(split) - 1)
        images, labels = _taken(split, chosen)
        if augment:
            key = tf.random.experimental.stateless_fold_in([seed, 2], step)
            images = _augmented(images, rows, batch_size, key)
        return images, labels

    steps = tf.data.Dataset.range(first_step, last_step)
    made = steps.map(batch, num_parallel_calls=tf.data.AUTOTUNE)
    return made.rebatch(pieces).prefetch(tf.data.AUTOTUNE)


def _pieces(batch_size: int, worker: tf.distribute.InputContext) -> tuple[int, list[int]]:
    """A worker's first row of a batch, and how many rows each of its replicas gets."""
    size, more = divmod(batch_size, worker.num_replicas_in_sync)
    sizes = [size + (replica < more) for replica in range(worker.num_replicas_in_sync)]
    of_each = worker.num_replicas_in_sync // worker.num_input_pipelines
    before = worker.input_pipeline_id * of_each
    return sum(sizes[:before]), sizes[before : before + of_each]


def _taken(split: Split, places: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Images float32 in [0, 1] and labels at some places of a split.

    By NumPy, so that images stay where they are, on disk, too; a tensor of all would be a copy.
    """
    images, labels = tf.numpy_function(
        lambda chosen: (split.images[chosen], split.labels[chosen]),
        [places],
        [tf.uint8, tf.int32],
        stateful=False,
    )
    images.set_shape([*places.shape, *split.images.shape[1:]])
    labels.set_shape(places.shape)
    return tf.cast(images, tf.float32) / 255.0, labels


def _augmented(images: tf.Tensor, part: slice, batch_size: int, key: tf.Tensor) -> tf.Tensor:
    """Zero padding of 4 pixels, a random crop of the old size, a random mirror image.

    The numbers are drawn for the whole batch, of which the images are a part.
    """
    padded = tf.pad(images, [[0, 0], [4, 4], [4, 4], [0, 0]])
    corners = tf.random.stateless_uniform([batch_size, 2], key, 0, 9, tf.int32)[part]
    mirrored = tf.random.stateless_uniform([batch_size, 1], key)[part] > 0.5
    height, width = images.shape[1:3]
    rows = corners[:, :1] + tf.range(height)
    columns = corners[:, 1:] + tf.range(width)
    columns = tf.where(mirrored, columns[:, ::-1], columns)
    return tf.gather(tf.gather(padded, rows, batch_dims=1), columns, axis=2, batch_dims=1)
