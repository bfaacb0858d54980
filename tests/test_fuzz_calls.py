"""Attacks and evaluations called with anything: what is promised, or one line what is wrong."""

import fractions
import functools

import fuzzing
import numpy as np
import pytest
import tensorflow as tf
import toys
from hypothesis import example, given
from hypothesis import strategies as st

from jarn_tf import attacks, evaluation, input_jacobian
from jarn_tf.evaluation.masking import verdict

pytestmark = pytest.mark.usefixtures("eagerly")

_SEED = st.integers(0, 2**40)
_FEW = st.integers(1, 3)
_RUNS = {"steps": _FEW, "restarts": st.integers(1, 2), "seed": _SEED}
_LOSSES = st.sampled_from(["cross_entropy", "margin"])
_EPSILON = st.one_of(st.floats(0, 1), st.sampled_from([0, 1, np.float32(0.1), np.float64(0.1)]))
_BATCH_SIZE = st.sampled_from([1, 3, 128])
_NORMS = st.sampled_from(["linf", "l2"])
_SHARED = {"epsilon": _EPSILON, "norm": _NORMS, "batch_size": _BATCH_SIZE}
#: Name of an attack to its options.
_ATTACKS = {
    "fgsm": _SHARED | {"loss": _LOSSES},
    "pgd": _SHARED | _RUNS | {
        "step_size": st.one_of(st.none(), st.floats(1e-3, 1)),
        "random_start": st.booleans(),
        "loss": _LOSSES,
        "stop_when_misclassified": st.booleans(),
    },
    "apgd": _SHARED | _RUNS | {
        "loss": st.sampled_from(["dlr", "margin"]), "targets": st.integers(0, 5),
    },
    "fab": _SHARED | _RUNS | {"targets": st.integers(1, 5)},
    "square": _SHARED | {"queries": _FEW, "restarts": _FEW, "seed": _SEED},
}  # fmt: skip
#: Name of another call to its options.
_EVALUATIONS = {
    "jacobian": {"of": st.sampled_from(["loss", "softmax", "logit", "margin"])},
    "robustness": {"batch_size": _BATCH_SIZE},
    "verdict": {"epsilon": st.floats(0.01, 1), "seed": _SEED},
}
_CLASSES = st.sampled_from([2, 3, 5])


@functools.cache
def classifier(classes):
    return toys.classifier(classes=classes)


@st.composite
def calls(draw, functions):
    """Name, number of classes and arguments of a call."""
    name = draw(st.sampled_from(sorted(functions)))
    options = draw(fuzzing.spoiled(fuzzing.DATA | functions[name]))
    return name, draw(_CLASSES), options


def shown(images):
    """Images as an attack promises to take them: bytes over 255, float32 within [0, 1]."""
    images = np.asarray(images)
    divisor = np.float32(255 if images.dtype == np.uint8 else 1)
    return np.clip(images.astype(np.float32) / divisor, 0, 1)


def integers(labels):
    labels = np.asarray(labels)
    rows = labels.ndim == 2 and labels.shape[1] > 1
    return labels.argmax(axis=-1) if rows else labels.reshape(-1)


def as_dataset(images, labels):
    return tf.data.Dataset.from_tensor_slices((images, labels)).batch(3)


def call(name, **odd):
    return name, 3, {"images": "float32", "labels": "int32", "epsilon": 0.1} | odd


@given(calls(_ATTACKS), st.booleans())
@example(call("fgsm", epsilon=np.array([0.1, 0.2])), False)
@example(call("fgsm", epsilon=fractions.Fraction(8, 255)), False)
@example(call("fgsm", images="ragged"), False)
@example(call("fgsm", labels="of Python's"), False)
@example(call("fgsm", labels="one-hot, bool"), False)
@example(call("pgd", steps=2**31), False)
@example(call("pgd", seed=-1), False)
@example(call("pgd", epsilon=1), False)
@example(call("pgd", epsilon=np.float64(0.1)), False)
@example(call("apgd", epsilon=np.float64(0.1)), False)
@example(call("pgd", step_size=1e300), False)
@example(call("pgd", steps=np.int8(2), restarts=np.int8(2)), False)
@example(call("apgd", steps=np.int8(127), seed=np.int8(1)), False)
@example(call("pgd", random_start=np.array([True, False])), False)
@example(call("square", seed=2**31, queries=2), False)
def test_attacks(drawn, streamed):
    name, classes, options = drawn
    images, labels, options = fuzzing.data(options, classes)
    given_as = (images, labels)
    if streamed and fuzzing.rows(images) == fuzzing.rows(labels) == fuzzing.N:
        given_as = (as_dataset(images, labels),)
    model = classifier(classes)
    found = fuzzing.result_or_refusal(getattr(attacks, name), model, *given_as, **options)
    if found is None:
        return
    images = shown(images)
    assert (found.dtype, found.shape) == (np.float32, images.shape)
    assert found.min() >= 0 and found.max() <= 1  # NaN fails
    order = {"linf": np.inf, "l2": 2}[options.get("norm", "linf")]
    moved = (found.astype(np.float64) - images).reshape(len(images), -1)
    assert (np.linalg.norm(moved, order, axis=1) <= float(options["epsilon"])).all()
    if name in ("apgd", "fab", "square"):
        changed = (found != images).any(axis=(1, 2, 3))
        assert (np.argmax(model(found), axis=-1) != integers(labels))[changed].all()


@given(calls(_EVALUATIONS))
def test_evaluations(drawn):
    name, classes, options = drawn
    images, labels, options = fuzzing.data(options, classes)
    given_as = classifier(classes), images, labels
    if name == "jacobian":
        found = fuzzing.result_or_refusal(input_jacobian, *given_as, **options)
        if found is not None:
            assert found.shape == shown(images).shape and np.isfinite(found).all()
    elif name == "robustness":
        clean = [evaluation.Attack("clean", 0.0), evaluation.Attack("fgsm", 0.0)]
        rows = fuzzing.result_or_refusal(
            evaluation.robustness, *given_as, clean, progress=False, **options
        )
        if rows is not None:
            right = np.argmax(given_as[0](shown(images)), axis=-1) == integers(labels)
            assert [row["accuracy"] for row in rows] == [right.mean()] * 3
    else:
        judged = fuzzing.result_or_refusal(_handed_to_the_measurements, *given_as, **options)
        if judged is not None:
            np.testing.assert_array_equal(judged[0], shown(images))
            np.testing.assert_array_equal(judged[1], integers(labels))


class _Measured(Exception):
    pass


def _handed_to_the_measurements(*arguments, **options):
    """Images and labels that the verdict is judged from, before minutes of attacks."""
    taken = []

    def measure(classifier, images, labels, *rest):
        taken.extend((images, labels))
        raise _Measured

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(verdict, "measure", measure)
        try:
            evaluation.masking_verdict(*arguments, **options)
        except _Measured:
            return taken


def test_a_compiled_attack_tells_rows_from_integers():
    """Of one type, which TensorFlow would generalise to labels of any rank."""
    tf.config.run_functions_eagerly(False)
    images, labels = toys.batch(fuzzing.N)
    model = toys.classifier()
    kinds = (labels, np.eye(toys.CLASSES, dtype=labels.dtype)[labels], labels[:, None])
    first, *others = [attacks.fgsm(model, images, kind, epsilon=0.1) for kind in kinds]
    for other in others:
        np.testing.assert_array_equal(other, first)
