"""What is reproduced, and at what size: experiments, scales, the models of the rows."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import pathlib
from typing import Any

from jarn_tf import arguments
from jarn_tf.runs.config import NO_EFFECT, PRESETS, WATCHING, Config, defaults
from jarn_tf.runs.presets import preset
from jarn_tf.runs.presets.cifar10 import COMPACT

#: Experiment to the module that has it, as a constant of its name.
EXPERIMENTS = {
    "table1": "tables",
    "table2": "tables",
    "table3": "tables",
    "table4": "table4",
    "table5": "table5",
    "figure2": "figure2",
    "figure3": "figure3",
    "figure4": "figure4",
    "figure5": "figure5",
    "autoattack": "autoattack",
    "authors": "authors",
    "levers": "levers",
    "tradeoff": "tradeoff",
    "overfitting": "overfitting",
}
SCALES = ("smoke", "small", "full")
#: What the keys of `Setting.identity` begin with that are digests of a row's settings.
SETTINGS_OF = "settings of "

#: Row to how the paper calls it, or we do.
ROWS = {
    "standard": "Standard",
    "uniform_noise": "Uniform Noise",
    "fgsm_at": "FGSM-AT1",
    "double_backprop": "Double Backprop",
    "jarn": "JARN",
    "pgd_at": "PGD-AT7",
    "jarn_at": "JARN-AT1",
    "jarn_pgd_at": "JARN-PGD-AT",  # beyond the paper
    "pgd_at_wide": "PGD-AT7, larger radius",  # Section 4.3.1
    "trades": "TRADES",  # beyond the paper
}

#: Of each dataset.
CLASSES = 10
#: Dataset to the shape of its images and how many there are to train on, the last tenth left out.
IMAGES = {
    "digits": ((28, 28, 1), 1_294),
    "mnist": ((28, 28, 1), 54_000),
    "svhn": ((32, 32, 3), 65_932),
    "cifar10": ((32, 32, 3), 45_000),
}

BASELINES = ("standard", "uniform_noise", "jarn")
#: The rows of the paper's Table 3.
SEVEN = (
    "standard", "uniform_noise", "fgsm_at", "double_backprop", "jarn", "pgd_at", "jarn_at",
)  # fmt: skip

#: Row to what its training costs, in forward passes a step; for estimates of time alone.
COST = {
    "standard": 3,
    "uniform_noise": 3,
    "fgsm_at": 5,
    "double_backprop": 6,
    "jarn": 5,
    "pgd_at": 17,
    "jarn_at": 8,
    "jarn_pgd_at": 20,
    "pgd_at_wide": 17,
    "trades": 27,
}

#: Radius of the row `pgd_at_wide`. Section 4.3.1 has 12/255; on 28x28 digits 0.4 is ours.
_WIDE_RADIUS = {"digits": 0.4, "mnist": 0.4, "svhn": 12 / 255, "cifar10": 12 / 255}

_TINY_NETWORKS = dict(wide_resnet_units=1, wide_resnet_width=1, discriminator_filters=(4, 8))
_SMOKE = dict(epochs=2, batch_size=32, train_examples=64, test_examples=32) | _TINY_NETWORKS
_SMALL_DIGITS = dict(epochs=4, train_examples=20_000, test_examples=1_000)
_SMALL_NATURAL = {name: value for name, (value, _) in COMPACT.items()} | dict(test_examples=1_000)


def _scale_changes(scale: str, dataset: str) -> dict[str, Any]:
    """What a scale changes; `full` is the preset itself, `small` is sized for two cores."""
    small = _SMALL_DIGITS if dataset in ("digits", "mnist") else _SMALL_NATURAL
    return {"smoke": _SMOKE, "small": small, "full": {}}[scale]


@dataclasses.dataclass(frozen=True)
class Setting:
    """One experiment on one dataset at one scale.

    Attributes:
        experiment: Its name.
        dataset: One of `arguments.DATASETS`.
        scale: One of `SCALES`.
        preset: One of `PRESETS`.
        rows: Names of `ROWS` to run.
        seeds: Seeds to run.
        output: Folder of the results.
        data_dir: TFDS folder, or None.
        substitute: `.keras` file of a model to make transfer attacks on, or None.
    """

    experiment: str
    dataset: str
    scale: str
    preset: str
    rows: tuple[str, ...]
    seeds: tuple[int, ...]
    output: pathlib.Path
    data_dir: str | None = None
    substitute: str | None = None

    def __post_init__(self):
        arguments.one_of("dataset", self.dataset, arguments.DATASETS)
        arguments.one_of("scale", self.scale, SCALES)
        arguments.one_of("preset", self.preset, PRESETS)
        if not self.rows or set(self.rows) - set(ROWS):
            raise ValueError(
                f"rows must be all, or some of {', '.join(ROWS)}. "
                f"Received: {','.join(self.rows) or 'none'}."
            )
        if not self.seeds or len(set(self.seeds)) < len(self.seeds):
            raise ValueError(
                "seeds must be different whole numbers, such as 0,1,2. "
                f"Received: {','.join(map(str, self.seeds)) or 'none'}."
            )
        for seed in self.seeds:
            self.config(self.rows[0], seed)  # raises ValueError for a seed out of range

    def identity(self) -> dict[str, Any]:
        """What two results must share to stand in one file; rows and seeds add up in it.

        Each row's settings stand by themselves, so that a new row leaves the file as it is.
        """
        names = ("experiment", "dataset", "scale", "preset")
        return (
            {name: getattr(self, name) for name in names}
            | {
                "substitute": self.substitute
                and _digest(pathlib.Path(self.substitute).read_bytes())
            }
            | {f"{SETTINGS_OF}{row}": digest_of_run(self.config(row, 0)) for row in ROWS}
        )

    @property
    def epsilon(self) -> float:
        """The radius of the paper's attacks on the dataset."""
        return preset(self.dataset, preset="paper").epsilon

    def config(self, row: str, seed: int, **changes: Any) -> Config:
        """The training run behind a row."""
        if row == "pgd_at_wide":
            changes = {"training_epsilon": _WIDE_RADIUS[self.dataset]} | changes
        defense = "pgd_at" if row == "pgd_at_wide" else row
        return preset(
            self.dataset,
            defense,
            self.preset,
            **{
                **_scale_changes(self.scale, self.dataset),
                "seed": seed,
                "data_dir": self.data_dir,
                **changes,
            },
        )


def digest_of_run(run: Config) -> str:
    """Of the settings that the trained weights depend on.

    Those at their default are left out, so that results outlive a new option that is off unless
    told.
    """
    training = {
        name: value
        for name, value in run.as_dict().items()
        if name not in (*WATCHING, *NO_EFFECT)
        and run.uses(name.split(".")[0])
        and (name, value) not in defaults().items()
    }
    return _digest(json.dumps(training).encode())


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()[:12]
