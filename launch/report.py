"""Puts runs side by side on one page: `python -m launch.report --runs=runs/a,runs/b`.

A run is the folder of a `launch.train`, or the output folder of a `launch.evaluate`.
"""

from __future__ import annotations

import sys

from absl import app, flags

from . import command, import_library  # the wheel calls this folder jarn_tf_launch

FLAGS = flags.FLAGS

flags.DEFINE_list("runs", None, "Folders of runs or evaluations.")
flags.DEFINE_string(
    "output",
    "report.html",
    "The page; it needs no other file. A model card of each run is written beside it, "
    "report_model_card.md.",
)


def main(argv: list[str]) -> None:
    """Reads the flags and calls the library."""
    if len(argv) > 1:
        raise app.UsageError(f"Unknown argument {argv[1]!r}.")
    with command.one_line_errors():
        if not FLAGS.runs:
            raise ValueError("Name at least one folder in --runs. Received: none.")
        if not all(FLAGS.runs):
            raise ValueError(
                "Name folders in --runs, a comma between two. Received an empty name: "
                f"--runs={','.join(FLAGS.runs)}."
            )
        import_library()
        from jarn_tf.runs import report_page

        page, *cards = report_page.report(FLAGS.runs, FLAGS.output)
        print(f"Report:     {page}")
        for card in cards:
            print(f"Model card: {card}")


def run() -> None:
    """`python -m launch.report`, and the console command `jarn-report`."""
    command.run(sys.modules[__name__])


if __name__ == "__main__":
    run()
