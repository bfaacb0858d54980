import numpy as np
import pytest
import tensorflow as tf
import toys

from jarn_tf.randomness import BatchSlice, uniform_rows


def test_slices_draw_what_the_whole_batch_draws():
    images = tf.zeros((7, *toys.IMAGE_SHAPE))
    step = tf.constant(5)
    whole = BatchSlice.of(images, 3, step).uniform(images, -1.0, 1.0)
    parts = []
    for start, size in ((0, 4), (4, 3), (7, 0)):
        of_batch = BatchSlice(3, step, *map(tf.constant, (start, size, 7)))
        np.testing.assert_array_equal(of_batch.rows, range(start, start + size))
        parts.append(of_batch.uniform(images[start : start + size], -1.0, 1.0))
    np.testing.assert_array_equal(np.concatenate(parts), whole)


def test_a_second_draw_is_independent_of_the_first_and_of_the_same_kind():
    images = tf.zeros((50, *toys.IMAGE_SHAPE))
    batch = BatchSlice.of(images, 3, tf.constant(5))
    first, second = (batch.uniform(images, -1.0, 1.0, stream=s).numpy() for s in (0, 4))
    correlation = np.corrcoef(first.ravel(), second.ravel())[0, 1]
    assert abs(correlation) < 4 / np.sqrt(first.size)
    np.testing.assert_allclose(second.std(), 1 / np.sqrt(3), rtol=0.03)
    again = BatchSlice.of(images, 3, tf.constant(5)).uniform(images, -1.0, 1.0, stream=4)
    np.testing.assert_array_equal(second, again)


def test_means_of_slices_add_up_to_the_mean():
    values = tf.constant([1.0, 2.0, 4.0, 8.0, 16.0])
    shares = [
        BatchSlice(0, tf.constant(0), *map(tf.constant, (start, stop - start, 5))).mean(
            values[start:stop]
        )
        for start, stop in ((0, 3), (3, 5), (5, 5))
    ]
    np.testing.assert_allclose(sum(shares), 6.2)


@pytest.mark.parametrize("row", [(8,), (5,), (3, 3, 1), (1,)])
def test_rows_are_those_of_the_whole_draw(row):
    """Also where a row does not begin with a new count of the generator."""
    whole = tf.random.stateless_uniform([9, *row], [3, 4], -0.3, 0.7).numpy()
    compiled = tf.function(lambda first, n: uniform_rows(first, (n, *row), (3, 4), -0.3, 0.7))
    for first in range(9):
        for n in (1, 9 - first):
            rows = uniform_rows(first, (n, *row), (3, 4), -0.3, 0.7)
            np.testing.assert_array_equal(rows, whole[first : first + n])
    np.testing.assert_array_equal(compiled(tf.constant(3), tf.constant(4)), whole[3:7])
