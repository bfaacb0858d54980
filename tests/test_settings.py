import pytest

from jarn_tf.runs import settings
from jarn_tf.runs.settings import Optimizer


@pytest.mark.parametrize(
    ("kind", "text", "value"),
    [
        (settings.RADIUS, "0.3", 0.3),
        (settings.RADIUS, "8/255", 8 / 255),
        (settings.RADIUS, "0", 0.0),
        (settings.RADIUS, "1e-2", 0.01),
        (settings.POSITIVE, "1/4", 0.25),
        (settings.TRUTH, "False", False),
        (settings.CHANNELS, "64,128", (64, 128)),
        (settings.OPTIMIZER, "adam:0.001", Optimizer("adam", 0.001)),
        (settings.OPTIMIZER, "sgd:0.1:0.9", Optimizer("sgd", 0.1, 0.9)),
        (settings.DECAY, "0.5:0.1,0.75:0.01", ((0.5, 0.1), (0.75, 0.01))),
        (settings.DECAY, "", ()),
    ],
)
def test_text_is_read(kind, text, value):
    assert kind.parse(text) == value
    kind.check("it", value)


@pytest.mark.parametrize(
    ("kind", "text"),
    [
        (settings.RADIUS, "tiny"),
        (settings.RADIUS, "1/0"),
        (settings.TRUTH, "maybe"),
        (settings.CHANNELS, "64,many"),
        (settings.OPTIMIZER, "adam"),
        (settings.OPTIMIZER, "adam:fast"),
        (settings.OPTIMIZER, "rmsprop:0.1"),
        (settings.OPTIMIZER, "adam:0.1:0.9"),
        (settings.OPTIMIZER, "sgd:0.1:1.5"),
        (settings.whole(), "ten"),
        (settings.OPTIMIZER, "sgd:-1"),
        (settings.DECAY, "0.5"),
    ],
)
def test_text_that_cannot_be_read(kind, text):
    with pytest.raises(ValueError) as error:
        kind.parse(text)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("kind", "value"),
    [
        (settings.choice("a", "b"), "c"),
        (settings.whole(), 0),
        (settings.whole(least=0, most=9), 10),
        (settings.whole(), 1.5),
        (settings.whole(), True),
        (settings.RADIUS, "0.3"),
        (settings.POSITIVE, None),
        (settings.TRUTH, 1),
        (settings.TEXT, 3),
        (settings.CHANNELS, (8, 0)),
        (settings.OPTIMIZER, "adam"),
        (settings.DECAY, ((0.75, 0.1), (0.5, 0.1))),
        (settings.DECAY, ((1.5, 0.1),)),
        (settings.DECAY, ((0.5, 0.0),)),
        (settings.RADIUS, 1.5),
    ],
)
def test_values_that_a_setting_may_not_have(kind, value):
    with pytest.raises(ValueError, match="its_name") as error:
        kind.check("its_name", value)
    assert "\n" not in str(error.value)
