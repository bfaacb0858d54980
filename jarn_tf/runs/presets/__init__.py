"""What each dataset, preset and defense trains with: a file a dataset, read top to bottom."""

from __future__ import annotations

import dataclasses
from typing import Any

from jarn_tf import arguments
from jarn_tf.runs.config import (
    DEFENSES,
    NO_EFFECT,
    PAIRS,
    PRESETS,
    WATCHING,
    Config,
    declarations,
    defaults,
    defense_of,
)
from jarn_tf.runs.presets import cifar10, digits, mnist, svhn
from jarn_tf.runs.presets.claims import Claim, Preset

__all__ = ["Claim", "Preset", "Resolved", "changed", "find", "preset", "resolve"]

#: Settings that say which run of a preset it is, or where its images lie.
_OF_NO_PRESET = ("dataset", "defense", "preset", "seed", *NO_EFFECT)
#: What may differ from a run that was measured: what is watched, and on what it runs.
_NO_CHANGE = (*WATCHING, "strategy", "replicas", "deterministic")
_MODULES = {"digits": digits, "mnist": mnist, "svhn": svhn, "cifar10": cifar10}


@dataclasses.dataclass(frozen=True)
class Resolved:
    """A run's settings, where each of them comes from, and what they were measured to reach.

    Attributes:
        config: The settings.
        sources: Name of a setting to the source of its value.
        claim: What the preset reaches with this defense; None if that was never measured.
    """

    config: Config
    sources: dict[str, str]
    claim: Claim | None

    def notes(self) -> list[str]:
        """What a user should know before the run, a sentence each."""
        config, notes = self.config, []
        if self.claim is None:
            notes.append(
                f"preset {config.preset} was never measured on {config.dataset} with {config.pair}."
            )
        else:
            others = [name for name in changed(config) if name not in _NO_CHANGE]
            if others:
                notes.append(
                    f"preset {config.preset} was measured with its own {', '.join(others)}."
                )
        for name, source in self.sources.items():
            if source == f"--{name}" and not config.uses(name):
                needs = declarations()[name].needs
                notes.append(f"--{name} has no effect on this run; it is for {needs}.")
        return notes


def find(dataset: str, name: str) -> Preset:
    """The preset `name` of a dataset. ValueError for an unknown name."""
    arguments.dataset("dataset", dataset)
    arguments.one_of("preset", name, PRESETS)
    return getattr(_MODULES.get(dataset, cifar10), name.upper())  # images of one's own: CIFAR-10's


def resolve(
    dataset: str = "digits", defense: str = "jarn", preset: str = "recommended", **changes: Any
) -> Resolved:
    """The preset's settings for a dataset and a defense, with their sources.

    Args:
        dataset: One of `arguments.DATASETS`, or such as `folder:DIR`.
        defense: One of `DEFENSES`.
        preset: `"paper"`: what the paper's text says. `"authors"`: what their released code does
            beyond it. `"recommended"`: what measures best.
        **changes: Settings of `Config` to have otherwise. `epsilon` alone changes
            `training_epsilon` too, `training_norm="l2"` alone unsets `attack_step_size`, and
            `init_from` alone sets `jarn_start_fraction` to 0 and `pixel_scale` to 1.

    Raises:
        ValueError: An unknown name or a value out of range.
    """
    arguments.one_of("defense", defense, DEFENSES)
    for name in changes:
        arguments.one_of("A setting", name, tuple(declarations()))
    chosen = find(dataset, preset)
    given = {key: (value, f"--{key}") for key, value in changes.items()}
    if changes.get("training_norm") == "l2":
        if "training_epsilon" not in changes:
            raise ValueError(
                "training_norm=l2 needs training_epsilon, as the preset's is measured in linf. "
                "Received: no training_epsilon."
            )
        given = {"attack_step_size": (None, "--training_norm")} | given
    if "epsilon" in given:
        given = {"training_epsilon": given["epsilon"]} | given
    if changes.get("init_from") is not None:
        given = {
            "jarn_start_fraction": (0.0, "--init_from: JARN from step 0"),
            "pixel_scale": (1.0, "--init_from: pixels in [0, 1]"),
        } | given
    pair = {
        part: given.get(part, (value, f"defense {defense}"))
        for part, value in zip(("perturbation", "regularizer"), PAIRS[defense])
    }
    perturbation, regularizer = (value for value, _ in pair.values())
    values = {key: (value, "default") for key, value in defaults().items()}
    values |= chosen.values(perturbation, regularizer)
    values |= pair | given
    named = {"dataset": dataset, "defense": defense, "preset": preset}
    values |= {
        key: (value, values[key][1] if value == values[key][0] else f"--{key}")
        for key, value in named.items()
    }
    config = Config(**{key: value for key, (value, _) in values.items()})
    return Resolved(
        config,
        {key: source for key, (_, source) in values.items()},
        chosen.claims.get(defense_of(*config.parts)),
    )


def changed(config: Config) -> dict[str, Any]:
    """Settings of a run that its preset has otherwise, to the preset's values.

    What has no effect on the run, and what says which run of the preset it is, is left out.
    """
    perturbation, regularizer = config.parts
    own = resolve(
        config.dataset,
        config.defense,
        config.preset,
        perturbation=perturbation,
        regularizer=regularizer,
    ).config
    return {
        name: getattr(own, name)
        for name in declarations()
        if name not in _OF_NO_PRESET
        and config.uses(name)
        and getattr(config, name) != getattr(own, name)
    }


def preset(
    dataset: str = "digits", defense: str = "jarn", preset: str = "recommended", **changes: Any
) -> Config:
    """The settings of `resolve` alone."""
    return resolve(dataset, defense, preset, **changes).config
