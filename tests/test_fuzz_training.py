"""Defenses made of anything and trained on anything: they train, or one line says what is wrong."""

import functools

import fuzzing
import keras
import numpy as np
import pytest
import toys
from hypothesis import example, given
from hypothesis import strategies as st

from jarn_tf import JARN, Defense, arguments, attacks, baselines

pytestmark = pytest.mark.usefixtures("eagerly")

_WEIGHT = st.floats(0, 1)
_OFTEN = st.integers(1, 3)
_ALWAYS = {
    "perturb": st.sampled_from(
        [None, attacks.UniformNoise(0.1), attacks.AdversarialExamples(0.1, steps=1)]
    ),
    "seed": st.integers(0, 2**40),
}
_PENALIZED = _ALWAYS | {"penalty_weight": _WEIGHT}
_RESTING = _PENALIZED | {"regularization_interval": _OFTEN}
#: Name of a defense to its arguments but the networks.
_DEFENSES = {
    Defense: _ALWAYS,
    JARN: _ALWAYS | {
        "adversarial_weight": _WEIGHT,
        "discriminator_interval": _OFTEN,
        "start_step": st.integers(0, 2),
        "jacobian_of": st.sampled_from(arguments.JACOBIANS),
        "standardize": st.booleans(),
        "gan_loss": st.sampled_from(arguments.GAN_LOSSES),
        "real_images": st.sampled_from(arguments.REAL_IMAGES),
        "regularization_interval": _OFTEN,
        "jacobian_penalty": _WEIGHT,
        "discriminator_penalty": _WEIGHT,
        "discriminator_noise": _WEIGHT,
    },
    baselines.InputGradientPenalty: _RESTING | {"norm": st.sampled_from(["l1", "l2"])},
    baselines.LogitJacobianPenalty: _RESTING | {"projections": _OFTEN},
    baselines.TRADES: _PENALIZED,
    baselines.GradientAlignment: _PENALIZED | {"epsilon": st.floats(0, 1)},
}  # fmt: skip
_DEFENSE_OF = {defense.__name__: defense for defense in _DEFENSES}
_COMPILED = {
    "optimizer": st.sampled_from(["adam", "sgd", None]),
    "loss": st.sampled_from([None, keras.losses.SparseCategoricalCrossentropy(from_logits=True)]),
    "metrics": st.sampled_from([None, ["accuracy"], ()]),
    "weighted_metrics": st.sampled_from([None, ["accuracy"]]),
    "steps_per_execution": st.integers(1, 2),
}
_ON_ARRAYS = ("fit", "evaluate", "predict")
_ON_A_BATCH = ("train_on_batch", "test_on_batch", "predict_on_batch")


@st.composite
def defenses(draw):
    name = draw(st.sampled_from(sorted(_DEFENSE_OF)))
    return name, draw(fuzzing.spoiled(_DEFENSES[_DEFENSE_OF[name]]))


def made(name, **arguments):
    networks = (toys.classifier(), toys.adaptor(), toys.discriminator())
    return _DEFENSE_OF[name](*networks[: 3 if name == "JARN" else 1], **arguments)


@given(defenses(), fuzzing.spoiled(_COMPILED))
@example(("Defense", {"seed": "0.1"}), {})
@example(("JARN", {"standardize": np.array([0.1, 0.2])}), {})
@example(("Defense", {}), {"metrics": 1})
@example(("Defense", {}), {"weighted_metrics": [0.1]})
@example(("Defense", {}), {"optimizer": {}})
def test_defenses(defense, compiled):
    name, arguments = defense
    model = fuzzing.result_or_refusal(made, name, **arguments)
    if model is None or fuzzing.result_or_refusal(_compiled, model, compiled) is None:
        return
    before = toys.arrays(model.classifier.weights)
    history = fuzzing.result_or_refusal(model.fit, *toys.batch(4), batch_size=2, verbose=0)
    after = toys.arrays(model.classifier.weights)
    assert all(np.isfinite(weights).all() for weights in after)
    if history is not None:
        assert np.isfinite(history.history["loss"]).all()
        assert any((a != b).any() for a, b in zip(before, after))


def _compiled(model, options):
    model.compile(**options)
    return model


@functools.cache
def trained(name):
    model = made(name)
    model.compile("sgd", metrics=None)
    return model


@given(
    st.sampled_from(["Defense", "JARN"]),
    st.sampled_from(_ON_ARRAYS + _ON_A_BATCH),
    fuzzing.spoiled(fuzzing.DATA),
)
@example("Defense", "train_on_batch", {"images": "empty", "labels": "column"})
@example("Defense", "evaluate", {"images": "none", "labels": "empty"})
def test_data(name, method, kinds):
    model = trained(name)
    images, labels, _ = fuzzing.data(kinds)
    options = {"verbose": 0, "batch_size": 2} if method in _ON_ARRAYS else {}
    of = (images,) if method.startswith("predict") else (images, labels)
    found = fuzzing.result_or_refusal(getattr(model, method), *of, **options)
    assert all(np.isfinite(weights).all() for weights in toys.arrays(model.weights))
    if found is None:
        return
    if method.startswith("predict"):  # whose values nobody looks at
        assert found.shape == (len(images), toys.CLASSES) and found.dtype == np.float32
    elif images is not None and len(images) and method in ("evaluate", "test_on_batch"):
        # Else Keras has called nothing.
        np.testing.assert_allclose(np.ravel(found)[0], _loss(model, images, labels), rtol=1e-4)


def _loss(model, images, labels):
    logits = np.asarray(model.classifier(np.asarray(images, np.float32)), np.float64)
    labels = np.asarray(labels)
    rows = (
        labels if labels.ndim == 2 and labels.shape[1] > 1 else np.eye(toys.CLASSES)[labels.ravel()]
    )
    return (np.log(np.exp(logits).sum(axis=-1)) - (rows * logits).sum(axis=-1)).mean()
