"""Settings and presets as text.

For `launch.train --show`, TensorBoard, `docs/settings.md` and `docs/presets.md`.

`python -m jarn_tf.runs.tables DIR` writes the two pages into a folder.
"""

from __future__ import annotations

import pathlib
import shlex
import sys
import textwrap
from typing import Any

from jarn_tf.arguments import DATASETS
from jarn_tf.runs.config import (
    DEFENSES,
    NO_EFFECT,
    PRESETS,
    Config,
    declarations,
    defaults,
)
from jarn_tf.runs.presets import Resolved, changed, find, preset, resolve

_NOT_MEASURED = "not measured"


def resolved_table(resolved: Resolved) -> str:
    """Every setting of a run with its value and the source of it, and what the preset claims."""
    config, claim = resolved.config, resolved.claim
    lines = [f"{config.dataset}, {config.pair}, preset {config.preset}"]
    if claim is None:
        lines.append(f"result    {_NOT_MEASURED}")
    else:
        parts = {"result": claim.result, "cost": claim.cost, "by": claim.command}
        lines += [f"{name:<10}{text}" for name, text in parts.items()]
    lines += ["", f"{'setting':<26}{'value':<32}source"]
    used = [name for name in declarations() if config.uses(name)]
    lines += [
        f"{name:<26}{short(getattr(config, name)):<31} {resolved.sources[name]}" for name in used
    ]
    rest = [name for name in declarations() if name not in used]
    if rest:
        lines += ["", f"Without effect on this run: {', '.join(rest)}."]
    return "\n".join(lines)


def settings_markdown(config: Config) -> str:
    """The settings of a run for TensorBoard, those first that its preset has otherwise."""
    others = changed(config)
    lines = [f"**{config.pair} on {config.dataset}, preset {config.preset}, seed {config.seed}**"]
    if others:
        lines += ["", "| other than the preset | here | preset |", "| --- | --- | --- |"]
        for name, value in others.items():
            lines.append(f"| `{name}` | {short(getattr(config, name))} | {short(value)} |")
    else:
        lines += ["", "Every setting is the preset's."]
    lines += ["", "All settings in use:", "", "| setting | value |", "| --- | --- |"]
    for name in declarations():
        if config.uses(name):
            lines.append(f"| `{name}` | {short(getattr(config, name))} |")
    return "\n".join(lines)


def training_command(settings: dict[str, Any], workdir: pathlib.Path) -> str:
    """The command that trains a run with the settings of a `config.json` in a folder.

    Raises:
        ValueError: They are no settings of a run.
    """
    named = {name: settings.get(name) for name in ("dataset", "defense", "preset")}
    own = preset(**named).as_dict()
    given = named | {"seed": settings.get("seed")}
    for name, value in settings.items():
        if value is None or value == own.get(name) or name in (*given, *NO_EFFECT):
            continue
        whole, nested, _ = name.partition(".")
        if nested:  # such as sgd:0.1:0.9
            parts = [settings[f"{whole}.{part}"] for part in ("name", "learning_rate", "momentum")]
            given[whole] = ":".join(str(part) for part in parts if part)
        elif isinstance(value, list):
            pairs = (v if isinstance(v, list) else [v] for v in value)
            given[name] = ",".join(":".join(map(str, pair)) for pair in pairs)
        else:
            given[name] = str(value).lower() if isinstance(value, bool) else value
    flags = [f"--{name}={value}" for name, value in given.items()]
    return shlex.join(["python", "-m", "launch.train", *flags, f"--workdir={workdir}"])


def settings_page() -> str:
    """`docs/settings.md`: every setting, as it is declared."""
    lines = [
        "# Settings",
        "",
        *_paragraph(
            "Every setting is a flag of `python -m launch.train` and a line of a run's "
            "`config.json`. Where no value stands here, the [preset](presets.md) gives it. "
            "`--show` prints the values of a run with their sources."
        ),
        "",
        "| setting | takes | value | what it is |",
        "| --- | --- | --- | --- |",
    ]
    of_their_own = defaults()
    for name, declared in declarations().items():
        value = short(of_their_own[name]) if name in of_their_own else ""
        lines.append(f"| `{name}` | {declared.kind.takes} | {value} | {_help(name)} |")
    return "\n".join(lines) + "\n"


def presets_page() -> str:
    """`docs/presets.md`: what each dataset, preset and defense trains with and reaches."""
    lines = [
        "# Presets",
        "",
        *_paragraph(
            "What `python -m launch.train --dataset=DATASET --preset=PRESET --defense=DEFENSE` "
            "trains with and what that reaches. The values stand with their sources in "
            "[jarn_tf/runs/presets](../jarn_tf/runs/presets), too, a file a dataset. What each "
            "preset is for: [training](training.md)."
        ),
        "",
        *_paragraph(
            "Results are accuracies in % on the test images, of seed 0 unless more are named, on "
            '2 CPU cores without a GPU, TensorFlow 2.21, November 2026. "Worst" is the share that '
            "withstands FGSM, PGD-5, PGD-40 and PGD-40 on the margin, at 0.3 unless radii are "
            "named. Minutes of the preset `paper` are seconds an epoch ([Table 4](cost.md)) times "
            "epochs."
        ),
    ]
    for dataset in DATASETS:
        lines += ["", f"## {dataset}", "", "| preset | defense | result | cost of training |"]
        lines.append("| --- | --- | --- | --- |")
        for name in PRESETS:
            claims = find(dataset, name).claims
            measured = [defense for defense in DEFENSES if defense in claims]
            lines += [
                f"| {name} | `{defense}` | {claims[defense].result} | {claims[defense].cost} |"
                for defense in measured
            ]
            rest = [f"`{defense}`" for defense in DEFENSES if defense not in claims]
            if rest:
                lines.append(f"| {name} | {', '.join(rest)} | {_NOT_MEASURED} | |")
        commands = _commands(dataset)
        if commands:
            lines += ["", "Printed by:", "", "```", *commands, "```"]
        for name in PRESETS:
            lines += ["", f"### {dataset}, {name}: values", "", *_values(dataset, name)]
    return "\n".join(lines) + "\n"


def _commands(dataset: str) -> list[str]:
    claims = [claim for name in PRESETS for claim in find(dataset, name).claims.values()]
    return list(dict.fromkeys(line for claim in claims for line in claim.command.split(", then ")))


def _values(dataset: str, name: str) -> list[str]:
    """The base of a preset, then what each defense changes in it."""
    chosen = find(dataset, name)
    lines = ["| defense | setting | value | source |", "| --- | --- | --- | --- |"]
    for key, (value, source) in chosen.base.items():
        lines.append(f"| all | `{key}` | {short(value)} | {source} |")
    for defense in DEFENSES:
        resolved = resolve(dataset, defense, name)
        for key, (value, _) in chosen.base.items():
            here = getattr(resolved.config, key)
            if here != value and resolved.config.uses(key):
                lines.append(f"| `{defense}` | `{key}` | {short(here)} | {resolved.sources[key]} |")
    return lines


def _paragraph(text: str) -> list[str]:
    return textwrap.wrap(text, 110, break_long_words=False, break_on_hyphens=False)


def _help(name: str) -> str:
    declared = declarations()[name]
    return f"{declared.help} For {declared.needs}." if declared.needs else declared.help


def short(value: Any) -> str:
    """A value as its flag takes it; a long list by its ends."""
    if value is None:
        return "unset"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float):
        return f"{round(value * 255)}/255" if _is_of_255(value) else f"{value:g}"
    if isinstance(value, tuple):
        shown = [":".join(f"{v:g}" for v in p) if isinstance(p, tuple) else str(p) for p in value]
        if len(shown) > 6:
            shown = [*shown[:2], "...", shown[-1]]
        return ",".join(shown) or "none"
    return str(value)


def _is_of_255(value: float) -> bool:
    return 0 < value < 0.2 and value * 255 == round(value * 255)


def main(folder: str = "docs") -> None:
    """Writes both pages."""
    for name, page in (("settings.md", settings_page()), ("presets.md", presets_page())):
        (pathlib.Path(folder) / name).write_text(page)


if __name__ == "__main__":
    main(*sys.argv[1:])
