import dataclasses

import keras
import pytest
import tensorflow as tf

from jarn_tf.runs import builders, config
from jarn_tf.runs.presets import preset


def test_strategies():
    assert builders.make_strategy("mirrored").num_replicas_in_sync == 1
    assert builders.make_strategy("mirrored", 2).num_replicas_in_sync == 2
    assert builders.make_strategy("none") is tf.distribute.get_strategy()


def test_the_rate_falls_where_the_config_says(tiny_config):
    c = dataclasses.replace(
        tiny_config, regularizer="none", classifier_decay=((0.5, 0.1), (0.75, 0.01))
    )
    first = c.classifier_optimizer.learning_rate
    model = builders.build_model(c, (28, 28, 1), 10, total_steps=100)
    rates = {}
    for step in (0, 49, 51, 74, 76, 99):
        model.optimizer.iterations.assign(step)
        rates[step] = float(model.optimizer.learning_rate)
    assert list(rates.values()) == pytest.approx(
        [first, first, first * 0.1, first * 0.1, first * 0.01, first * 0.01]
    )


@pytest.mark.parametrize("defense", config.DEFENSES)
def test_settings_reach_the_model(defense):
    settings = dict(
        training_epsilon=0.2,
        training_norm="l2",
        seed=5,
        noise_fraction=0.7,
        attack_steps=3,
        attack_step_size=0.07,
        epsilon_warmup_fraction=0.25,
        penalty_weight=0.4,
        adversarial_weight=0.6,
        discriminator_interval=7,
        jarn_start_fraction=0.5,
        discriminator_filters=(2, 3),
        activation="gelu",
        jit_compile=True,
    )
    c = preset("mnist", defense, "paper", **settings)
    wider = dataclasses.replace(c, training_epsilon=0.4)
    perturb = builders.build_model(wider, (28, 28, 1), 10, total_steps=100).perturb
    assert perturb is None or perturb.epsilon == 0.4
    model = builders.build_model(c, (28, 28, 1), 10, total_steps=100)
    assert model.seed == 5
    assert model.jit_compile
    expected = {
        "none": None,
        "uniform_noise": {"fraction": 0.7},
        "fgsm": {"steps": 1, "random_start": False, "targets": "labels"},
        "pgd": {"steps": 3, "random_start": True, "targets": "labels"},
        "pgd_kl": {"steps": 3, "random_start": True, "targets": "predictions"},
    }[c.perturbation]
    if c.perturbation in ("fgsm", "pgd", "pgd_kl"):
        expected |= {"step_size": 0.07, "warmup_steps": 25, "norm": "l2"}
    if expected is None:
        assert model.perturb is None
    else:
        assert model.perturb.get_config() == expected | {"epsilon": 0.2}
    if c.regularizer == "jarn":
        assert (model.adversarial_weight, model.discriminator_interval) == (0.6, 7)
        assert model.start_step == 50
    elif c.regularizer != "none":
        assert model.penalty_weight == 0.4
    activations = [getattr(layer, "activation", None) for layer in model.classifier.layers]
    assert keras.activations.gelu in activations


def test_settings_reach_n_fgsm():
    options = {"training_epsilon": 0.2, "attack_step_size": 0.07, "epsilon_warmup_fraction": 0.25}
    c = preset("mnist", "fgsm_at", "paper", perturbation="n_fgsm", **options)
    perturb = builders.build_model(c, (28, 28, 1), 10, total_steps=100).perturb
    assert type(perturb).__name__ == "NFGSM"
    expected = {"epsilon": 0.2, "noise": 2.0, "step_size": 0.07, "warmup_steps": 25}
    assert perturb.get_config() == expected


@pytest.mark.parametrize(
    ("regularizer", "kind", "options"),
    [
        ("none", "Defense", {}),
        ("jarn", "JARN", {}),
        ("double_backprop", "InputGradientPenalty", {"norm": "l2"}),
        ("l1_gradient", "InputGradientPenalty", {"norm": "l1"}),
        ("frobenius", "LogitJacobianPenalty", {"projections": 1}),
        ("trades", "TRADES", {}),
        ("gradient_alignment", "GradientAlignment", {"epsilon": 0.3}),
    ],
)
def test_every_regularizer_has_its_class(regularizer, kind, options):
    c = preset("digits", "uniform_noise", regularizer=regularizer, discriminator_filters=(2, 3))
    model = builders.build_model(c, (28, 28, 1), 10, total_steps=100)
    assert type(model).__name__ == kind
    assert {name: getattr(model, name) for name in options} == options


def test_the_wide_resnet_is_as_wide_and_deep_as_told():
    c = preset("cifar10", "standard", "paper", wide_resnet_units=2, wide_resnet_width=3)
    classifier = builders.build_model(c, (32, 32, 3), 10, total_steps=10).classifier
    convolutions = [w for w in classifier.trainable_weights if w.shape.rank == 4]
    assert len(convolutions) == 1 + 3 * 2 * 2
    assert max(w.shape[-1] for w in convolutions) == 64 * 3
