"""Attacks a trained classifier: `python -m launch.evaluate --workdir=runs/mnist_jarn_recommended`.

Or a model of your own: `--model=FILE.keras --dataset=mnist --output=DIR`; `--pixel_scale=255` and
`--probabilities` where it expects and returns those. `--verdict` judges whether its gradients are
masked. An interrupted evaluation is continued by the same command.
"""

from __future__ import annotations

import dataclasses
import shlex
import sys
from typing import Any

from absl import app, flags

from jarn_tf import arguments
from jarn_tf.runs import settings

from . import command, import_library  # the wheel calls this folder jarn_tf_launch

FLAGS = flags.FLAGS

flags.DEFINE_string("workdir", None, "Folder of a finished run.")
flags.DEFINE_string("model", None, "A file of a Keras model instead.")
command.define_setting("pixel_scale", "With --model: largest pixel value that it expects.")
command.define_setting("probabilities", "With --model: whether it returns probabilities.")
command.define_import()
command.define_setting("dataset", "With --model: what to evaluate it on.")
flags.DEFINE_string("output", None, "With --model: folder of evaluation.json.")
command.define_setting("data_dir")
command.define_setting("image_size")
command.define_setting("memory_share")
flags.DEFINE_list("attacks", ["fgsm", "pgd40"], f"Names: {arguments.ATTACK_NAMES}.")
command.define_list(
    "epsilon",
    settings.RADIUS.parse,
    "numbers such as 0.1,0.3 or 8/255",
    "One radius or several, pixels being in [0, 1]. Unset: the run's; with --model 0.3 on digits "
    "and mnist, else 8/255.",
)
flags.DEFINE(
    command.Words(arguments.NORMS),
    "norm",
    "linf",
    "What epsilon is measured in. l2 needs --epsilon.",
)
flags.DEFINE(
    command.Words(arguments.VERSIONS),
    "version",
    "standard",
    "Of autoattack: plus has more attacks and starts, rand is for models that answer at random.",
)
flags.DEFINE_integer("examples", None, "Use the first so many test images. Unset: all.")
flags.DEFINE_integer("restarts", 1, "Independent runs of PGD, APGD, FAB, Square.")
flags.DEFINE(
    command.Parser(settings.POSITIVE.parse, settings.POSITIVE.takes),
    "step_size",
    None,
    "Step of PGD. Unset: 2.5 epsilon / steps, at most epsilon/4.",
)
flags.DEFINE_bool("random_start", True, "Whether PGD starts at a random point of the ball.")
flags.DEFINE_integer("seed", 0, "Seed of everything random.")
flags.DEFINE_bool(
    "verdict",
    False,
    "Whether to judge also if gradients are masked: at the largest radius, on 500 images.",
)
flags.DEFINE(
    command.Words(("none", "multi_worker")),
    "strategy",
    "none",
    "multi_worker: divides the attacks over the workers of the variable TF_CONFIG.",
)


def main(argv: list[str]) -> None:
    """Reads the flags and calls the library."""
    if len(argv) > 1:
        raise app.UsageError(f"Unknown argument {argv[1]!r}.")
    with command.one_line_errors():
        kind = command.given(("pixel_scale", "probabilities"))
        _refuse_flags(kind)
        import_library()
        from jarn_tf.evaluation import Attack
        from jarn_tf.runs import evaluating
        from jarn_tf.runs.builders import make_strategy
        from jarn_tf.workers import Workers

        command.import_modules()
        workers = Workers(make_strategy(FLAGS.strategy))  # before a model is loaded
        if FLAGS.workdir:
            target = evaluating.finished_run(FLAGS.workdir)
        else:
            target = evaluating.saved_model(FLAGS.model, FLAGS.dataset, FLAGS.output, **kind)
        target = dataclasses.replace(target, **command.given(("image_size", "memory_share")))
        radii = FLAGS.epsilon or [target.epsilon]
        attacks = [
            Attack(
                name,
                epsilon,
                norm=FLAGS.norm,
                version=FLAGS.version,
                restarts=FLAGS.restarts,
                step_size=FLAGS.step_size,
                random_start=FLAGS.random_start,
                seed=FLAGS.seed,
            )
            for epsilon in radii
            for name in FLAGS.attacks
        ]
        evaluating.evaluate(
            target,
            attacks,
            FLAGS.examples,
            FLAGS.data_dir,
            max(radii) if FLAGS.verdict else None,
            FLAGS.seed,
            workers,
            shlex.join(["python", "-m", "launch.evaluate", *sys.argv[1:]]),
        )


def _refuse_flags(kind: dict[str, Any]) -> None:
    """Raises ValueError for what can be told of the flags alone; `kind` is said of a model."""
    own = (FLAGS.model, FLAGS.dataset, FLAGS.output)
    if FLAGS.workdir and (any(own) or kind):
        raise ValueError(
            "Name --workdir, or --model, --dataset and --output with what is said of the model, "
            "not both."
        )
    if not FLAGS.workdir and not all(own):
        raise ValueError("Name --workdir, or all of --model, --dataset and --output.")
    if not FLAGS.attacks:
        raise ValueError("Name at least one attack in --attacks. Received: none.")
    for name in FLAGS.attacks:
        arguments.attack(name)
    if FLAGS.version != "standard" and "autoattack" not in FLAGS.attacks:
        raise ValueError(
            f"--version is one of AutoAttack's. Received: --version={FLAGS.version} without "
            "autoattack in --attacks."
        )
    if FLAGS.norm == "l2" and not FLAGS.epsilon:
        raise ValueError(
            "Name --epsilon with --norm=l2, as the default radius is one of L-infinity, for "
            "instance --epsilon=0.5."
        )
    if FLAGS.norm == "l2" and FLAGS.verdict:
        raise ValueError(
            "--verdict judges in L-infinity. Received: --norm=l2. Call it without one of the two."
        )


def run() -> None:
    """`python -m launch.evaluate`, and the console command `jarn-evaluate`."""
    command.run(sys.modules[__name__])


if __name__ == "__main__":
    run()
