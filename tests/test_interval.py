import numpy as np
import pytest

from jarn_tf.evaluation import accuracy_interval


@pytest.mark.parametrize("right", [0, 1, 30, 99, 100])
def test_the_ends_are_1_96_standard_errors_from_what_was_found(right):
    """Wilson's condition: an accuracy is in it if its own standard error allows what was found."""
    found = right / 100
    for end in accuracy_interval(found, 100):
        error = np.sqrt(end * (1 - end) / 100)
        assert abs(found - end) == pytest.approx(1.959964 * error, rel=1e-4, abs=1e-6)
    low, high = accuracy_interval(found, 100)
    assert 0 <= low <= found <= high <= 1 and high - low > 0.03
