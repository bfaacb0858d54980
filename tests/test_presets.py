"""What stands in the presets' files; their values are in test_config."""

import itertools
import json
import pathlib
import shlex

import pytest

from jarn_tf import arguments
from jarn_tf.runs import tables
from jarn_tf.runs.config import DEFENSES, PRESETS, REGULARIZERS, declarations, defaults
from jarn_tf.runs.presets import changed, find, preset, resolve
from jarn_tf.runs.settings import Optimizer

DOCS = pathlib.Path(__file__).parents[1] / "docs"
PAIRS = list(itertools.product(arguments.DATASETS, PRESETS))


@pytest.mark.parametrize(("dataset", "name"), PAIRS)
def test_every_value_has_a_source_and_every_setting_a_value(dataset, name):
    preset = find(dataset, name)
    named = {"perturbation", "regularizer"}
    assert set(declarations()) == set(preset.base) | set(defaults()) | named
    layers = [preset.base]
    for part in (preset.perturbations, preset.regularizers, preset.defenses):
        layers += part.values()
    for _, source in itertools.chain.from_iterable(layer.values() for layer in layers):
        assert isinstance(source, str) and source


@pytest.mark.parametrize(("dataset", "name"), PAIRS)
def test_claims_are_of_defenses_and_say_everything(dataset, name):
    claims = find(dataset, name).claims
    assert set(claims) <= set(DEFENSES)
    for claim in claims.values():
        assert claim.command.startswith(("python -m launch.", "make "))
        assert claim.cost and claim.result


def test_sources_of_what_is_given_and_of_what_is_not():
    sources = resolve("mnist", "pgd_at", "paper", epochs=3, epsilon=0.2).sources
    assert sources["epochs"] == "--epochs"
    assert sources["training_epsilon"] == sources["epsilon"] == "--epsilon"
    assert "Section 4.1" in sources["network"]
    assert sources["perturbation"] == "defense pgd_at"
    assert sources["seed"] == "default"
    assert "Section 4.1" in resolve("mnist", "pgd_at", "paper").sources["training_epsilon"]


def test_a_radius_of_l_infinity_is_not_taken_for_one_of_l2():
    for options in ({}, {"epsilon": 0.2}):
        with pytest.raises(ValueError, match="training_norm=l2 needs training_epsilon"):
            resolve("mnist", "pgd_at", training_norm="l2", **options)
    config = resolve("mnist", "pgd_at", training_norm="l2", training_epsilon=2.0).config
    assert (config.training_epsilon, config.attack_step_size) == (2.0, None)
    with pytest.raises(ValueError, match="training_epsilon must be a number in .0, 1."):
        resolve("mnist", "pgd_at", training_epsilon=2.0)


def test_a_claim_is_of_the_pair_that_is_trained():
    assert resolve("mnist", "jarn").claim is not None
    same = resolve("mnist", "standard", perturbation="uniform_noise", regularizer="jarn")
    assert same.claim is resolve("mnist", "jarn").claim and same.notes() == []
    assert resolve("mnist", "jarn", regularizer="double_backprop").claim is None
    assert resolve("mnist", "jarn", perturbation="fgsm").claim is None
    assert resolve("folder:pictures").claim is None  # whose values are those of CIFAR-10


def test_a_claim_is_of_the_preset_s_own_values():
    (note,) = resolve("mnist", "jarn", epsilon=0.2, epochs=3, seed=1).notes()
    assert note.endswith("measured with its own epochs, training_epsilon.")
    assert resolve("mnist", "jarn", training_epsilon=0.45, robust_every=5).notes() == []


@pytest.mark.parametrize(
    ("run", "changes", "expected"),
    [
        (("mnist", "jarn"), {}, {}),
        (("mnist", "jarn"), {"seed": 3, "data_dir": "elsewhere"}, {}),
        (("digits", "jarn"), {"epochs": 3, "robust_every": 2}, {"epochs": 100, "robust_every": 1}),
        (("digits", "standard"), {"epsilon": 0.1}, {"epsilon": 0.3}),  # it trains on no noise
        (("mnist", "standard"), {"perturbation": "uniform_noise", "regularizer": "jarn"}, {}),
        (("mnist", "standard"), {"penalty_weight": 7.0}, {}),  # without effect
        (("mnist", "jarn"), {"perturbation": "fgsm", "batch_size": 7}, {"batch_size": 128}),
    ],
)
def test_what_differs_from_the_preset(run, changes, expected):
    """With the preset's values; of a pair without a name, too."""
    assert changed(resolve(*run, **changes).config) == expected


def test_a_setting_that_there_is_not():
    with pytest.raises(ValueError, match="Received: 'epoch'"):
        resolve("mnist", epoch=3)


@pytest.mark.parametrize("regularizer", REGULARIZERS)
def test_what_has_no_effect_is_said(regularizer):
    weights = {"adversarial_weight": 0.5, "penalty_weight": 0.5}
    notes = resolve(perturbation="uniform_noise", regularizer=regularizer, **weights).notes()
    said = {name for name in weights if any(f"--{name} has no effect" in n for n in notes)}
    expected = {
        "none": set(weights), "jarn": {"penalty_weight"},
    }.get(regularizer, {"adversarial_weight"})  # fmt: skip
    assert said == expected


def test_the_training_radius_is_of_a_perturbation_or_of_gradient_alignment():
    needs = "perturbation uniform_noise or fgsm or n_fgsm or pgd or pgd_kl or regularizer gradient"
    for regularizer, used in (
        ("none", False),
        ("double_backprop", False),
        ("gradient_alignment", True),
    ):
        resolved = resolve("mnist", "standard", regularizer=regularizer, training_epsilon=0.2)
        assert resolved.config.uses("training_epsilon") == used
        assert (
            any("--training_epsilon has no effect" in n and needs in n for n in resolved.notes())
            != used
        )
    assert resolve("mnist", "fgsm_at", regularizer="none").config.uses("training_epsilon")


@pytest.mark.parametrize(
    ("page", "written"),
    [("settings.md", tables.settings_page), ("presets.md", tables.presets_page)],
)
def test_the_docs_are_those_of_the_code(page, written):
    if not DOCS.exists():
        pytest.skip("no docs beside the package: an installed wheel")
    assert (DOCS / page).read_text() == written(), f"run `make docs` to write docs/{page} anew"


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"dataset": "mnist", "defense": "pgd_at", "preset": "paper", "seed": 3, "epsilon": 0.25},
        {
            "classifier_optimizer": Optimizer("sgd", 0.05, 0.9), "discriminator_filters": (8, 16),
            "classifier_decay": ((0.5, 0.1), (0.75, 0.01)), "augment": True,
        },
    ],
)  # fmt: skip
def test_the_command_of_a_run_has_its_settings(changes):
    config = preset(**changes)
    settings = json.loads(json.dumps(config.as_dict()))
    *_, workdir = flags = shlex.split(tables.training_command(settings, pathlib.Path("a b")))[3:]
    assert workdir == "--workdir=a b"
    given = (flag.removeprefix("--").split("=", 1) for flag in flags[:-1])
    assert preset(**{n: declarations()[n].kind.parse(text) for n, text in given}) == config
