"""What every pair of a perturbation and a regulariser has to keep, named defense or not."""

import contextlib
import functools
from unittest import mock

import keras
import numpy as np
import pytest
import toys

from jarn_tf import JARN, Defense, attacks
from jarn_tf.baselines import (
    TRADES,
    GradientAlignment,
    InputGradientPenalty,
    LogitJacobianPenalty,
)
from jarn_tf.runs import config

EPSILON = 0.25
#: Largest radius at each of a run's 4 steps: it grows until the last one.
RADII = (0.0625, 0.125, 0.1875, 0.25)


def adversarial(**options):
    return attacks.AdversarialExamples(EPSILON, warmup_steps=4, **options)


def jarn(classifier, **options):
    return JARN(
        classifier, toys.adaptor(), toys.discriminator(), discriminator_interval=1, **options
    )


# Named as in `config.PAIRS`.
PERTURBATIONS = {
    "none": lambda: None,
    "uniform_noise": lambda: attacks.UniformNoise(EPSILON, 0.5),
    "fgsm": lambda: adversarial(steps=1, random_start=False),
    "n_fgsm": lambda: attacks.NFGSM(EPSILON, warmup_steps=4),
    "pgd": lambda: adversarial(steps=2),
    "pgd_kl": lambda: adversarial(steps=2, targets="predictions"),
}
REGULARIZERS = {
    "none": Defense,
    "jarn": jarn,
    "double_backprop": functools.partial(InputGradientPenalty, penalty_weight=0.5),
    "l1_gradient": functools.partial(InputGradientPenalty, penalty_weight=0.2, norm="l1"),
    "frobenius": functools.partial(LogitJacobianPenalty, penalty_weight=0.1, projections=2),
    "trades": functools.partial(TRADES, penalty_weight=2.0),
    "gradient_alignment": functools.partial(GradientAlignment, penalty_weight=8.0, epsilon=EPSILON),
}
#: Pairs of what has no name of its own that are quick, too.
UNNAMED = {
    ("none", "l1_gradient"),
    ("none", "frobenius"),
    ("n_fgsm", "none"),
    ("fgsm", "gradient_alignment"),
}
METRICS = {
    "none": set(),
    "jarn": {"adversarial_loss", "discriminator_real_accuracy", "discriminator_adapted_accuracy"},
}


def build(perturbation, regularizer):
    model = REGULARIZERS[regularizer](
        toys.classifier(), perturb=PERTURBATIONS[perturbation](), seed=3
    )
    model.compile(*(keras.optimizers.SGD(0.2, momentum=0.9) for _ in model.OPTIMIZERS))
    return model


def fit(model, epochs, callbacks=None):
    """Steps of 8 and of 5 images; on two replicas of 4 and 4, and of 3 and 2."""
    images, labels = toys.batch(13)
    options = {"shuffle": False, "verbose": 0, "callbacks": callbacks}
    return model.fit(images, labels, 8, epochs, **options).history


class Run:
    """An eager run of 2 epochs, saved after the first. Eager, as nothing is compiled then."""

    def __init__(self, pair, folder):
        self.perturbation, self.regularizer = self.pair = pair
        self.saved = folder / "model.keras"
        self.images = []  # those that were perturbed at each step, and what became of them
        model = build(*pair)
        model.run_eagerly = True
        self.before = toys.state(model)
        save = keras.callbacks.LambdaCallback(
            on_epoch_end=lambda epoch, logs: epoch or model.save(self.saved)
        )
        with self.watched(model.perturb):
            self.history = fit(model, 2, [save])
        self.after = toys.state(model)

    def watched(self, perturb):
        if perturb is None:
            return contextlib.nullcontext()
        kind, original = type(perturb), type(perturb).__call__

        def call(self_, classifier, images, labels, batch):
            perturbed = original(self_, classifier, images, labels, batch)
            self.images.append((images.numpy(), perturbed.numpy()))
            return perturbed

        return mock.patch.object(kind, "__call__", call)


def pairs():
    """All of them; the named defenses and the regularisers that have no name are quick."""
    for regularizer in REGULARIZERS:
        for perturbation in PERTURBATIONS:
            pair = perturbation, regularizer
            quick = pair in {*config.PAIRS.values(), *UNNAMED}
            marks = () if quick else pytest.mark.slow
            yield pytest.param(pair, id="-".join(pair), marks=marks)


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    return functools.cache(lambda pair: Run(pair, tmp_path_factory.mktemp("-".join(pair))))


@pytest.fixture(scope="module", params=pairs())
def run(request, runs):
    return runs(request.param)


def test_every_perturbation_and_regularizer_is_here():
    assert set(PERTURBATIONS) == set(config.PERTURBATIONS)
    assert set(REGULARIZERS) == set(config.REGULARIZERS)


def test_every_weight_moves(run):
    """Each entry of each one, and the momentum of each."""
    for name, after in run.after.items():
        if not name.endswith("_optimizer/1"):  # the learning rate
            assert (after != run.before[name]).all(), name


def test_history_is_finite_and_has_the_metrics_of_the_regularizer(run):
    metrics = METRICS.get(run.regularizer, {"penalty"})
    assert set(run.history) == {"loss", "accuracy"} | metrics
    assert np.isfinite(list(run.history.values())).all()


def test_perturbed_images_are_in_the_ball(run):
    assert len(run.images) == (0 if run.perturbation == "none" else 4)
    for (images, perturbed), radius in zip(run.images, RADII):
        if run.perturbation == "uniform_noise":
            radius = EPSILON
        if run.perturbation == "n_fgsm":
            radius *= 3  # the noise is twice as wide as the step is long
        assert perturbed.min() >= 0 and perturbed.max() <= 1
        assert radius / 2 < np.abs(perturbed - images).max() <= radius + 1e-7


def test_perturbation_and_regularizer_change_the_result(run, runs):
    """TRADES on images as they are has no divergence to lower."""
    without = {(run.perturbation, "none"), ("none", run.regularizer)} - {run.pair}
    for pair in without:
        other = runs(pair).after
        shifts = [
            np.abs(after - other[name]).max()
            for name, after in run.after.items()
            if name.startswith("classifier/")
        ]
        if run.pair == ("none", "trades"):
            assert max(shifts) < 1e-5
        else:
            assert min(shifts) > 1e-3


def test_saved_and_loaded_model_continues_as_if_unbroken(run):
    model = keras.models.load_model(run.saved)
    model.run_eagerly = True
    fit(model, 1)
    toys.assert_same(toys.state(model), run.after)


def assert_near(model, history, run):
    toys.assert_same(toys.state(model), run.after, rtol=1e-5, atol=1e-5)
    assert history.keys() == run.history.keys()
    for name, values in run.history.items():
        np.testing.assert_allclose(history[name], values, rtol=1e-4, atol=1e-5, err_msg=name)


def test_two_compiled_replicas_are_one_eager(run, two_replicas):
    with two_replicas.scope():
        model = build(*run.pair)
    assert_near(model, fit(model, 2), run)


@pytest.mark.parametrize("pair", [("fgsm", "jarn"), ("pgd_kl", "trades")], ids="-".join)
def test_one_compiled_replica_is_one_eager(pair, runs):
    model = build(*pair)
    assert_near(model, fit(model, 2), runs(pair))
