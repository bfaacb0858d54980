import numpy as np
import pytest
import tensorflow as tf
import toys

from jarn_tf import checks


@pytest.mark.parametrize("compiled", [False, True])
def test_a_failed_requirement_is_one_line_with_its_values(compiled):
    def function(x):
        checks.require(x < 3, "x must be below 3. Received: ", x, ".")
        return x

    function = tf.function(function) if compiled else function
    with checks.as_value_error():
        assert int(function(tf.constant(2))) == 2
    with pytest.raises(ValueError) as error, checks.as_value_error():
        function(tf.constant(5))
    assert str(error.value) == "x must be below 3. Received: 5."


def test_other_errors_pass():
    with pytest.raises(tf.errors.InvalidArgumentError), checks.as_value_error():
        tf.reshape(tf.zeros(3), (2, 2))


def test_a_batch_becomes_float32_and_keeps_its_values():
    images, labels = toys.batch(4)
    for dtype in (np.float16, np.float32, np.float64):
        given = images.astype(dtype)
        tensor, _ = checks.batch(toys.classifier(), given, labels)
        assert tensor.dtype == tf.float32
        np.testing.assert_array_equal(tensor, given.astype(np.float32))


def test_an_empty_batch_is_no_error():
    images, labels = toys.batch(4)
    tensor, _ = checks.batch(toys.classifier(), images[:0], labels[:0])
    assert tensor.shape == (0, *toys.IMAGE_SHAPE)
