"""Trains a classifier: `python -m launch.train --dataset=mnist`.

Every setting of a run is a flag; unset ones have the preset's value. `--show` prints them all.
"""

from __future__ import annotations

import pathlib
import sys
import urllib.parse

from absl import app, flags

from jarn_tf.runs.config import declarations
from jarn_tf.runs.presets import resolve
from jarn_tf.runs.tables import resolved_table

from . import command, import_library  # the wheel calls this folder jarn_tf_launch

FLAGS = flags.FLAGS

for _name in declarations():
    command.define_setting(_name)
flags.DEFINE_string(
    "workdir",
    None,
    "Folder of the run; an unfinished run in it is continued. Unset: runs/DATASET_DEFENSE_PRESET.",
)
command.define_import()
flags.DEFINE_bool(
    "show", False, "Prints every setting with the source of its value, and trains nothing."
)


def main(argv: list[str]) -> None:
    """Reads the flags and calls the library."""
    if len(argv) > 1:
        raise app.UsageError(f"Unknown argument {argv[1]!r}.")
    with command.one_line_errors():
        resolved = resolve(**command.given(declarations()))
        config = resolved.config
        if FLAGS.show:
            print(resolved_table(resolved))
        for note in resolved.notes():
            print(f"Note: {note}")
        if FLAGS.show:
            return
        import_library()
        command.import_modules()
        from jarn_tf.runs import training

        dataset = urllib.parse.quote(config.dataset.replace(":", "_", 1), safe="")
        default = pathlib.Path("runs") / f"{dataset}_{config.pair}_{config.preset}"
        training.train(config, FLAGS.workdir or default)


def run() -> None:
    """`python -m launch.train`, and the console command `jarn-train`."""
    command.run(sys.modules[__name__])


if __name__ == "__main__":
    run()
