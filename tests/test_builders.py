import dataclasses

import pytest
import tensorflow as tf

from jarn_tf import builders


def test_strategies():
    assert builders.make_strategy("mirrored").num_replicas_in_sync == 1
    assert builders.make_strategy("mirrored", 2).num_replicas_in_sync == 2
    assert builders.make_strategy("none") is tf.distribute.get_strategy()


def test_the_rate_falls_where_the_config_says(tiny_config):
    config = dataclasses.replace(
        tiny_config, defense="standard", classifier_decay=((0.5, 0.1), (0.75, 0.01))
    )
    first = config.classifier_optimizer.learning_rate
    model = builders.build_model(config, (28, 28, 1), 10, total_steps=100)
    rates = {}
    for step in (0, 49, 51, 74, 76, 99):
        model.optimizer.iterations.assign(step)
        rates[step] = float(model.optimizer.learning_rate)
    assert list(rates.values()) == pytest.approx(
        [first, first, first * 0.1, first * 0.1, first * 0.01, first * 0.01]
    )


@pytest.mark.parametrize("defense", ["standard", "uniform_noise", "jarn"])
def test_settings_reach_the_model(tiny_config, defense):
    config = dataclasses.replace(tiny_config, defense=defense, epsilon=0.2, seed=5)
    model = builders.build_model(config, (28, 28, 1), 10, total_steps=100)
    assert model.seed == 5
    assert (model.perturb is None) == (defense == "standard")
    if model.perturb is not None:
        assert model.perturb.epsilon == 0.2
        assert model.perturb.fraction == config.noise_fraction
    if defense == "jarn":
        for name in ("adversarial_weight", "discriminator_interval", "jacobian_of", "gan_loss"):
            assert getattr(model, name) == getattr(config, name)
        assert model.start_step == round(config.jarn_start_fraction * 100)
