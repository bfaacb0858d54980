"""The hint that a classifier expects pixels up to 255."""

import warnings

import keras
import pytest

from jarn_tf import as_classifier, evaluation
from jarn_tf.evaluation.masking import verdict


def robustness(classifier, split):
    attack = evaluation.Attack("fgsm", 0.1)
    evaluation.robustness(classifier, split.floats, split.labels, [attack], progress=False)


def masking_verdict(classifier, split):
    with pytest.raises(KeyboardInterrupt):
        evaluation.masking_verdict(classifier, split.floats, split.labels, epsilon=0.1)


@pytest.mark.parametrize("measure", [robustness, masking_verdict])
def test_who_measures_such_a_classifier_is_warned(digits_classifier, digits, measure, monkeypatch):
    def interrupt(*args):
        raise KeyboardInterrupt  # before minutes of attacks

    monkeypatch.setattr(verdict, "measure", interrupt)
    scale = keras.layers.Rescaling(1 / 255)
    model = keras.Sequential([keras.Input((28, 28, 1)), scale, digits_classifier])
    with pytest.warns(evaluation.PixelScaleWarning, match="as_classifier") as warned:
        measure(model, digits.test.first(40))
    assert [w.filename for w in warned] == [__file__]
    with warnings.catch_warnings():
        warnings.simplefilter("error", evaluation.PixelScaleWarning)
        measure(as_classifier(model, pixel_scale=255.0), digits.test.first(40))
