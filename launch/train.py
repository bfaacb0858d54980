"""Trains a classifier: `python -m launch.train --dataset=mnist`."""

from __future__ import annotations

import dataclasses
import pathlib

from absl import app, flags

from jarn_tf import config as config_lib
from jarn_tf import experiment
from launch import command

FLAGS = flags.FLAGS

flags.DEFINE_enum("dataset", "digits", config_lib.DATASETS, "What to train on.")
flags.DEFINE_enum("defense", "jarn", config_lib.DEFENSES, "How to train.")
flags.DEFINE_enum(
    "preset",
    "recommended",
    config_lib.PRESETS,
    "Where unset flags take their values from: what measures best, what the paper's text says, "
    "or what the authors' released code does.",
)
flags.DEFINE_string(
    "workdir",
    None,
    "Folder of the run; an unfinished run in it is continued. Unset: runs/DATASET_DEFENSE_PRESET.",
)
flags.DEFINE_string("data_dir", None, "TFDS folder. Unset: TFDS_DATA_DIR, else TFDS's default.")
flags.DEFINE_integer("seed", None, "Seed of weights, order and noise.")
flags.DEFINE_integer("epochs", None, "Passes over the training images.")
flags.DEFINE_integer("batch_size", None, "Images a step, over all replicas.")
flags.DEFINE(
    command.RadiusParser(), "epsilon", None, "Radius of noise and attacks, pixels being in [0, 1]."
)
flags.DEFINE(
    command.RadiusParser(),
    "training_epsilon",
    None,
    "Radius of the perturbation of the training images, if not --epsilon.",
)
flags.DEFINE_enum(
    "perturbation",
    None,
    config_lib.PERTURBATIONS,
    "Perturbation of the training images. Unset: the defense's.",
)
flags.DEFINE_enum(
    "regularizer", None, config_lib.REGULARIZERS, "Regulariser. Unset: the defense's."
)
flags.DEFINE_float("noise_fraction", None, "Share of each batch that gets noise.")
flags.DEFINE_integer("attack_steps", None, "Steps of the training attack pgd or pgd_kl.")
flags.DEFINE(command.RadiusParser(), "attack_step_size", None, "Step size of the training attack.")
flags.DEFINE_bool("attack_random_start", None, "Whether the training attack fgsm starts randomly.")
flags.DEFINE_float(
    "epsilon_warmup_fraction",
    None,
    "Share of the steps over which the training attack's radius grows from 0.",
)
flags.DEFINE_float("penalty_weight", None, "Weight of every regulariser but JARN.")
flags.DEFINE_enum("activation", None, config_lib.ACTIVATIONS, "The classifier's activation.")
flags.DEFINE_float("adversarial_weight", None, "lambda_adv of Eq. 10.")
flags.DEFINE_integer("discriminator_interval", None, "Steps between discriminator updates.")
flags.DEFINE_float("jarn_start_fraction", None, "Share of the steps before JARN's phase.")
flags.DEFINE_enum("jacobian_of", None, config_lib.JACOBIANS, "What J is the gradient of.")
flags.DEFINE_bool("standardize", None, "Zero mean and unit norm for J and discriminator inputs.")
flags.DEFINE_enum("gan_loss", None, config_lib.GAN_LOSSES, "What the classifier minimises.")
flags.DEFINE_enum("real_images", None, config_lib.REAL_IMAGES, "The discriminator's real images.")
flags.DEFINE_integer("train_examples", None, "Use the first so many training images.")
flags.DEFINE_integer("test_examples", None, "Use the first so many test images.")
flags.DEFINE_integer(
    "robust_every", None, "Epochs between two evaluations of robust accuracy during training."
)
flags.DEFINE_bool(
    "keep_best_robust", None, "Whether to keep the classifier of the epoch of best robust accuracy."
)
flags.DEFINE_enum("strategy", None, config_lib.STRATEGIES, "How to distribute training.")
flags.DEFINE_integer("replicas", None, "Logical CPUs to mirror over where there is no GPU.")

_PRESET = ("dataset", "defense", "preset")


def main(argv: list[str]) -> None:
    """Reads the flags and calls the library."""
    if len(argv) > 1:
        raise app.UsageError(f"Unknown argument {argv[1]!r}.")
    with command.one_line_errors():
        settings = [field.name for field in dataclasses.fields(config_lib.Config)]
        chosen = {
            name: FLAGS[name].value
            for name in settings
            if name in FLAGS and name not in _PRESET and FLAGS[name].value is not None
        }
        config = config_lib.preset(FLAGS.dataset, FLAGS.defense, FLAGS.preset, **chosen)
        default = pathlib.Path("runs") / f"{config.dataset}_{config.pair}_{config.preset}"
        experiment.train(config, FLAGS.workdir or default)


if __name__ == "__main__":
    app.run(main)
