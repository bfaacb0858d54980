"""Runs a table or figure of the paper: `python -m launch.reproduce --experiment=table1`."""

from __future__ import annotations

import sys

from absl import app, flags

from jarn_tf import arguments
from jarn_tf.reproduction.setting import EXPERIMENTS, ROWS, SCALES

from . import command, import_library  # the wheel calls this folder jarn_tf_launch

FLAGS = flags.FLAGS

flags.DEFINE_string("experiment", None, f"One of {', '.join(EXPERIMENTS)}.")
flags.DEFINE_string("output", "reproduction", "Folder of results and models; reused if it exists.")
command.define_setting("dataset", "Unset: the paper's.")
flags.DEFINE_string(
    "scale",
    "small",
    "full: the paper's setting. small: sized for 2 cores, natural images with a compact network. "
    "smoke: seconds, tiny data and networks, to see that it runs.",
)
command.define_setting(
    "preset",
    "Settings of the models. Unset: paper; authors for authors, recommended for levers and "
    "tradeoff.",
)
flags.DEFINE_list("rows", None, f"Models: all, or some of {', '.join(ROWS)}. Unset: the paper's.")
command.define_list(
    "seeds",
    int,
    "whole numbers such as 0,1,2",
    "Results are the mean and spread over these. Unset: 0,1,2 at full scale, else 0.",
)
command.define_setting("data_dir")
flags.DEFINE_string(
    "substitute", None, "For table5: a .keras file to attack in place of the PGD-AT7 model."
)
flags.DEFINE_integer(
    "dry_run",
    None,
    "Trains and writes nothing and needs no dataset: takes so many steps of each row, as the "
    "preset has it, and prints what time and memory its training would take.",
)
flags.DEFINE_integer(
    "dry_run_batch",
    None,
    "With --dry_run: images a step, where the preset's batch is too much; then extrapolated.",
)


def main(argv: list[str]) -> None:
    """Reads the flags and calls the library."""
    if len(argv) > 1:
        raise app.UsageError(f"Unknown argument {argv[1]!r}.")
    with command.one_line_errors():
        # What can be told before TensorFlow is imported.
        arguments.one_of("The experiment", FLAGS.experiment, tuple(EXPERIMENTS))
        arguments.one_of("scale", FLAGS.scale, SCALES)
        import_library()
        from jarn_tf.reproduction import dry_run, reproducing

        setting = reproducing.make_setting(
            FLAGS.experiment,
            FLAGS.output,
            FLAGS.dataset,
            FLAGS.scale,
            FLAGS.preset,
            None if FLAGS.rows is None else tuple(FLAGS.rows),
            FLAGS.seeds,
            FLAGS.data_dir,
            FLAGS.substitute,
        )
        if FLAGS.dry_run is not None:
            print(f"\n{dry_run.estimate(setting, FLAGS.dry_run, FLAGS.dry_run_batch)}")
        elif FLAGS.dry_run_batch is not None:
            raise ValueError("dry_run_batch is for a dry run: give --dry_run=20, say.")
        else:
            print(f"\n{reproducing.reproduce(setting)}")


def run() -> None:
    """`python -m launch.reproduce`, and the console command `jarn-reproduce`."""
    command.run(sys.modules[__name__])


if __name__ == "__main__":
    run()
