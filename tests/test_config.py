import dataclasses
import itertools
import json
import math

import pytest

from jarn_tf import arguments
from jarn_tf.runs import config
from jarn_tf.runs.config import Config
from jarn_tf.runs.presets import preset
from jarn_tf.runs.settings import Optimizer


@pytest.mark.parametrize(
    ("dataset", "epsilon", "weight", "interval", "filters"),
    [
        ("mnist", 0.3, 1, 10, (64, 128)),  # Section 4.1
        ("svhn", 8 / 255, 5, 20, (16, 32, 64, 128, 256)),  # Section 4.2
        ("cifar10", 8 / 255, 1, 20, (32, 64, 128, 256, 512)),  # Section 4.3
    ],
)
def test_the_paper_s_preset_is_what_the_paper_says(dataset, epsilon, weight, interval, filters):
    c = preset(dataset, preset="paper")
    assert c.epsilon == epsilon
    assert c.adversarial_weight == weight
    assert c.discriminator_interval == interval
    assert c.discriminator_filters == filters
    assert (c.jacobian_of, c.gan_loss, c.real_images) == ("loss", "minimax", "perturbed")
    assert not c.standardize
    assert c.jarn_start_fraction == 0.75  # "the last few epoch (25%)"
    assert c.noise_fraction == 1


def test_every_preset_is_a_valid_config_that_json_keeps():
    for names in itertools.product(arguments.DATASETS, config.DEFENSES, config.PRESETS):
        c = preset(*names)
        assert (c.dataset, c.defense, c.preset) == names
        flat = c.as_dict()
        assert json.loads(json.dumps(flat)) == flat
        assert flat["classifier_optimizer.learning_rate"] == c.classifier_optimizer.learning_rate


def test_two_configs_that_differ_have_dicts_that_differ():
    base = preset()
    for change in (
        {"seed": 1},
        {"classifier_decay": ((0.5, 0.1),)},
        {"adaptor_optimizer": Optimizer("adam", 0.5)},
        {"discriminator_filters": (1,)},
    ):
        assert preset(**change).as_dict() != base.as_dict()


@pytest.mark.parametrize(
    "change",
    [
        {"epochs": 0},
        {"epochs": math.nan},
        {"batch_size": -1},
        {"discriminator_interval": 0},
        {"replicas": 0},
        {"train_examples": 0},
        {"test_examples": -5},
        {"adversarial_weight": -1.0},
        {"adversarial_weight": math.inf},
        {"adversarial_weight": math.nan},
        {"epsilon": -1},
        {"epsilon": math.nan},
        {"noise_fraction": 1.5},
        {"epsilon_warmup_fraction": 1.1},
        {"attack_steps": 0},
        {"attack_step_size": 0.0},
        {"penalty_weight": -1.0},
        {"perturbation": "gaussian"},
        {"regularizer": "l2"},
        {"activation": "tanh"},
        {"wide_resnet_width": 0},
        {"robust_every": 0},
        {"robust_every": 1.5},
        {"seed": 2**32},
        {"jarn_start_fraction": -0.1},
        {"jacobian_of": "logits"},
        {"gan_loss": "wasserstein"},
        {"real_images": "noisy"},
        {"strategy": "tpu"},
        {"network": "resnet"},
        {"weight_decay": -1.0},
        {"seed": -1},
    ],
)
def test_values_out_of_range(change):
    (name,) = change
    with pytest.raises(ValueError, match=name) as error:
        preset(**change)
    assert "\n" not in str(error.value)


def test_an_unknown_optimizer_is_not_taken_for_sgd():
    with pytest.raises(ValueError, match="rmsprop"):
        preset(classifier_optimizer=Optimizer("rmsprop", 0.1))


def test_a_radius_in_255ths_gets_a_hint():
    with pytest.raises(ValueError, match="did you mean 8/255"):
        preset(epsilon=8)


@pytest.mark.parametrize("names", [("imagenet",), ("mnist", "mart"), ("mnist", "jarn", "best")])
def test_unknown_names(names):
    with pytest.raises(ValueError, match=names[-1]):
        preset(*names)


def test_a_config_cannot_be_changed():
    with pytest.raises(AttributeError):
        preset().epsilon = 0.1
    assert isinstance(preset(), Config)


@pytest.mark.parametrize("name", config.PRESETS)
@pytest.mark.parametrize("dataset", arguments.DATASETS)
def test_a_pair_has_the_settings_of_the_defense_that_it_is(dataset, name):
    """Whatever defense it was named after."""
    for defense in config.PAIRS:
        expected = preset(dataset, defense, name)
        pair = {"perturbation": expected.perturbation, "regularizer": expected.regularizer}
        other = preset(dataset, "uniform_noise", name, **pair)
        assert dataclasses.replace(other, defense=defense) == expected
        assert other.pair == (
            "uniform_noise" if defense == "uniform_noise" else "+".join(pair.values())
        )


def test_a_defense_is_its_pair_in_every_preset():
    for names in itertools.product(arguments.DATASETS, config.DEFENSES, config.PRESETS):
        assert preset(*names).pair == names[1]


def test_epsilon_is_both_radii_unless_the_other_is_given():
    def radii(**changes):
        c = preset("mnist", "jarn_pgd_at", **changes)
        return c.epsilon, c.training_epsilon

    assert radii() == (0.3, 0.4)
    assert radii(epsilon=0.1) == (0.1, 0.1)
    assert radii(training_epsilon=0.2) == (0.3, 0.2)
    assert radii(epsilon=0.1, training_epsilon=0.2) == (0.1, 0.2)


def test_trades_without_a_perturbation_is_refused():
    with pytest.raises(ValueError, match="trades.*perturbation=none"):
        preset(regularizer="trades", perturbation="none")


def test_a_best_epoch_needs_an_evaluation():
    assert preset(epochs=3, robust_every=3, keep_best_robust=True).keep_best_robust
    with pytest.raises(ValueError, match="robust_every=4, epochs=3"):
        preset(epochs=3, robust_every=4, keep_best_robust=True)


def test_settings_of_one_s_own_come_before_those_of_the_pair():
    c = preset("mnist", "trades", "paper", penalty_weight=0.5, epsilon_warmup_fraction=0.0)
    assert (c.penalty_weight, c.epsilon_warmup_fraction, c.attack_steps) == (0.5, 0.0, 10)
