"""Random numbers that are a pure function of (seed, step) or (seed, index), however one splits.

Each replica of a `tf.distribute` strategy sees one slice of the global batch. A `BatchSlice`
draws for the global batch and hands out the rows of its slice, so that one replica and several
train on the same noise, and a resumed run continues exactly without saving random state.
`uniform_rows` does the same for attacks on many images, a few of which are attacked at once.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import tensorflow as tf


@dataclasses.dataclass(frozen=True)
class BatchSlice:
    """Where this replica's rows lie in the global batch of one training step.

    Attributes:
        seed: The run's seed.
        step: The training step, an integer tensor.
        start: Index of this replica's first row in the global batch.
        size: Rows of this replica.
        total: Rows of the global batch.
    """

    seed: int
    step: tf.Tensor
    start: tf.Tensor
    size: tf.Tensor
    total: tf.Tensor

    @classmethod
    def of(cls, images: tf.Tensor, seed: int, step: tf.Tensor) -> BatchSlice:
        """The slice that `images` are, called in a replica context or outside any strategy."""
        size = tf.shape(images)[0]
        replica = tf.distribute.get_replica_context()
        if replica.num_replicas_in_sync == 1:
            return cls(seed, step, tf.constant(0), size, size)
        index = tf.cast(replica.replica_id_in_sync_group, tf.int32)
        # Float, because the collective operations of several backends take nothing else.
        mine = tf.one_hot(index, replica.num_replicas_in_sync) * tf.cast(size, tf.float32)
        sizes = tf.cast(replica.all_reduce(tf.distribute.ReduceOp.SUM, mine), tf.int32)
        return cls(seed, step, tf.reduce_sum(sizes[:index]), size, tf.reduce_sum(sizes))

    @property
    def rows(self) -> tf.Tensor:
        """Indices [size] of this replica's rows in the global batch."""
        return self.start + tf.range(self.size)

    def uniform(self, images: tf.Tensor, low: float, high: float, stream: int = 0) -> tf.Tensor:
        """Uniform values in [low, high) of the shape of `images`.

        Each stream has values of its own: 0 is the perturbation's, 1 to 3 are those of order,
        augmentation and directions, so a regulariser takes one from 4 on.
        """
        seed = tf.random.experimental.stateless_fold_in([self.seed, stream], self.step)
        drawn = tf.random.stateless_uniform(self._global_shape(images), seed, low, high)
        return tf.cast(tf.gather(drawn, self.rows), images.dtype)

    def directions(self, logits: tf.Tensor, number: int) -> tf.Tensor:
        """Unit vectors [number, batch, classes], uniform over the sphere of the logits."""
        seed = tf.random.experimental.stateless_fold_in([self.seed, 3], self.step)
        shape = tf.concat([[number], self._global_shape(logits)], axis=0)
        drawn = tf.math.l2_normalize(tf.random.stateless_normal(shape, seed), axis=-1)
        return tf.cast(tf.gather(drawn, self.rows, axis=1), logits.dtype)

    def _global_shape(self, local: tf.Tensor) -> tf.Tensor:
        return tf.concat([[self.total], tf.shape(local)[1:]], axis=0)

    def over_replicas(self, value: tf.Tensor) -> tf.Tensor:
        """The sum of each replica's value."""
        replica = tf.distribute.get_replica_context()
        if replica.num_replicas_in_sync == 1:
            return value
        return replica.all_reduce(tf.distribute.ReduceOp.SUM, value)

    def mean(self, values: tf.Tensor) -> tf.Tensor:
        """This replica's share of the mean over the global batch.

        Gradients are summed over replicas, so shares add up to the gradient of the global mean.
        """
        return tf.reduce_sum(values) / tf.cast(self.total, values.dtype)


def uniform_rows(
    first: int | tf.Tensor,
    shape: Sequence[int | tf.Tensor],
    seed: Sequence[int] | tf.Tensor,
    low: float,
    high: float,
) -> tf.Tensor:
    """Rows of `tf.random.stateless_uniform` that are drawn without those before them.

    Args:
        first: Index of the first row.
        shape: Number of rows, then the shape of a row.
        seed: Two whole numbers.
        low: Smallest value.
        high: Bound that no value reaches.

    Returns:
        float32 values: the last rows of `tf.random.stateless_uniform([first + shape[0],
        *shape[1:]], seed, low, high)`, in memory that does not grow with `first`.
    """
    a_count = 4  # numbers that Philox makes of one count
    row = tf.reduce_prod(tf.cast(tf.stack(shape[1:]), tf.int64))
    before, number = tf.cast(first, tf.int64) * row, tf.cast(shape[0], tf.int64) * row
    counts, skipped = before // a_count, before % a_count
    key, counter = tf.raw_ops.StatelessRandomGetKeyCounter(seed=seed)
    drawn = tf.raw_ops.StatelessRandomUniformV2(
        shape=[skipped + number],
        key=key,
        counter=counter + tf.cast(tf.stack([counts, 0]), tf.uint64),
        alg=1,  # Philox
    )
    low, high = tf.constant(low, tf.float32), tf.constant(high, tf.float32)
    return tf.reshape(drawn[skipped:], shape) * (high - low) + low
