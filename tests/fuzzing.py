"""What the fuzz tests share: images, labels and numbers of every kind, and what a refusal is."""

import fractions
import numbers
import pathlib
import re
import traceback

import keras
import numpy as np
import tensorflow as tf
import toys
from hypothesis import strategies as st

import jarn_tf

N = 4
_OURS = str(pathlib.Path(jarn_tf.__file__).parent)
_KERAS = str(pathlib.Path(keras.__file__).parent)

_DTYPES = ("float16", "float32", "float64")
#: What `attacks.batches` promises to take.
RIGHT_IMAGES = {
    **{dtype: lambda x, dtype=dtype: x.astype(dtype) for dtype in _DTYPES},
    "bytes": lambda x: np.round(x * 255).astype(np.uint8),
    "rounded": lambda x: x * (1 + 2e-7),
    "tensor": tf.constant,
    "lists": lambda x: x.tolist(),
}
ODD_IMAGES = {
    "none": lambda x: None,
    "empty": lambda x: x[:0],
    "fewer": lambda x: x[:3],
    "one": lambda x: x[0],
    "flat": lambda x: x.reshape(N, -1),
    "one channel": lambda x: x[..., :1],
    "no channels": lambda x: x[..., 0],
    "of no pixels": lambda x: x[:, :0],
    "rank 5": lambda x: x[None],
    "up to 255": lambda x: x * 255,
    "whole": lambda x: np.round(x * 255).astype(int),
    "whole in [0, 1]": lambda x: np.round(x).astype(np.int32),
    "from -1": lambda x: 2 * x - 1,
    "a little beyond 1": lambda x: x * 1.001,
    "nan": lambda x: np.where(x > 0.5, np.nan, x),
    "inf": lambda x: np.where(x > 0.5, np.inf, x),
    "huge": lambda x: x.astype(np.float64) * 1e300,
    "bool": lambda x: x > 0.5,
    "complex": lambda x: x.astype(np.complex64),
    "long double": lambda x: x.astype(np.longdouble),
    "objects": lambda x: x.astype(object),
    "text": lambda x: x.astype(str),
    "bytestrings": lambda x: x.astype("S"),
    "lists of unequal length": lambda x: [x[0].tolist(), x[1, :2].tolist()],
    "ragged": lambda x: tf.ragged.constant([[0.1], [0.1, 0.2], [], [0.3]]),
    "sparse": lambda x: tf.sparse.from_dense(x),
    "number": lambda x: 0.5,
    "word": lambda x: "images",
    "names": lambda x: {"images": x},
    "pair": lambda x: (x, x),
    "generator": lambda x: iter(x),
    "list of arrays": list,
}
RIGHT_LABELS = {
    **{
        dtype: lambda y, c, dtype=dtype: y.astype(dtype)
        for dtype in ("int8", "uint8", "int32", "int64", "uint64")
    },
    "column": lambda y, c: y[:, None],
    "one-hot": lambda y, c: np.eye(c, dtype=np.float32)[y],
    "one-hot, whole": lambda y, c: np.eye(c, dtype=int)[y],
    "tensor": lambda y, c: tf.constant(y),
    "list": lambda y, c: y.tolist(),
}
ODD_LABELS = {
    "none": lambda y, c: None,
    "empty": lambda y, c: y[:0],
    "fewer": lambda y, c: y[:3],
    "more": lambda y, c: np.tile(y, 2),
    "one": lambda y, c: y[0],
    "floats": lambda y, c: y.astype(float),
    "half": lambda y, c: y + 0.5,
    "column of floats": lambda y, c: y[:, None].astype(float),
    "nan": lambda y, c: np.full(N, np.nan),
    "negative": lambda y, c: y - 1,
    "too large": lambda y, c: y + 1,
    "huge": lambda y, c: y.astype(int) + 2**40,
    "beyond int64": lambda y, c: y.astype(np.uint64) + np.uint64(2**63),
    "of Python's": lambda y, c: [10**30] * N,
    "bool": lambda y, c: y > 0,
    "text": lambda y, c: y.astype(str),
    "objects": lambda y, c: y.astype(object),
    "complex": lambda y, c: y.astype(complex),
    "rank 3": lambda y, c: np.eye(c)[y][:, None],
    "one-hot of other classes": lambda y, c: np.eye(c + 2)[y],
    "one-hot, bool": lambda y, c: np.eye(c, dtype=bool)[y],
    "one-hot of a column": lambda y, c: np.eye(c)[y].T,
    "soft": lambda y, c: np.full((N, c), 1 / c),
    "rows of zeros": lambda y, c: np.zeros((N, c)),
    "rows of nan": lambda y, c: np.full((N, c), np.nan),
    "number": lambda y, c: 1,
    "word": lambda y, c: "labels",
    "lists of unequal length": lambda y, c: [[0], [0, 1], [], [1]],
}
#: What stands where a number, a word or a truth is wanted.
_ODD = [
    None, True, "0.1", "", "cross_entropy", b"1", (), [0.1], {}, 1j, object, toys, -1, -0.5, 0, 1.5,
    8, 300, 2**31, 2**32, 2**63, 2**64, 10**30, 10**400, -(2**63), 1e-320, 1e300, float("nan"),
    float("inf"), -float("inf"), np.float64("nan"), np.float16(0.1), np.int8(2), np.uint64(2**63),
    np.str_("margin"), np.array(2), np.array([0.1, 0.2]), np.zeros(0), fractions.Fraction(8, 255),
]  # fmt: skip
ODD = st.sampled_from(_ODD)
_ODD_COUNTS = st.sampled_from(
    [odd for odd in _ODD if not (isinstance(odd, numbers.Integral) and 100 < odd < 2**31)]
)


DATA = {
    "images": st.sampled_from(sorted(RIGHT_IMAGES)),
    "labels": st.sampled_from(sorted(RIGHT_LABELS)),
}
_ODD_DATA = {
    "images": st.sampled_from(sorted(ODD_IMAGES)),
    "labels": st.sampled_from(sorted(ODD_LABELS)),
}
#: Numbers of steps or images that would take long, were they allowed.
_COUNTS = ("steps", "restarts", "queries", "batch_size", "projections")


@st.composite
def spoiled(draw, right):
    """Arguments by name, of which some, at most two, may be odd."""
    names = draw(st.sets(st.sampled_from(sorted(right)), max_size=2))
    found = {}
    for name, values in right.items():
        odd = _ODD_DATA.get(name, _ODD_COUNTS if name in _COUNTS else ODD)
        found[name] = draw(odd if name in names else values)
    return found


def data(drawn, classes=toys.CLASSES):
    """Images and labels of the kinds that are named in arguments, and the other arguments."""
    images, labels = toys.batch(N, classes=classes)
    others = {name: value for name, value in drawn.items() if name not in DATA}
    return (
        (RIGHT_IMAGES | ODD_IMAGES)[drawn["images"]](images),
        (RIGHT_LABELS | ODD_LABELS)[drawn["labels"]](labels, classes),
        others,
    )


def rows(values):
    """Number of rows of an array or tensor that a `tf.data.Dataset` takes; else None."""
    if str(getattr(values, "dtype", "object")) in ("object", "float128"):
        return None
    return values.shape[0] if len(values.shape) else None


def assert_refusal(error):
    """One line of ours, or what Keras says of its own arguments, such as optimizers."""
    frames = [frame.filename for frame in traceback.extract_tb(error.__traceback__)]
    if not any(name.startswith(_OURS) for name in frames):
        return  # Keras, before it has called anything of ours
    assert isinstance(error, (ValueError, TypeError)), repr(error)
    assert re.fullmatch(r"[^\n]*[.?]", str(error)) or frames[-1].startswith(_KERAS), repr(error)
    assert frames[-1].startswith((_OURS, _KERAS)), f"{frames[-1]}: {error!r}"


def result_or_refusal(call, *arguments, **options):
    """What a call returns; None where it is refused as `assert_refusal` says."""
    try:
        return call(*arguments, **options)
    except Exception as error:
        assert_refusal(error)
        return None
