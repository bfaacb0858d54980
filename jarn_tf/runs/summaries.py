"""What a run says in TensorBoard beside its curves: settings, results, the verdict, HParams."""

from __future__ import annotations

import contextlib
import pathlib
from collections.abc import Iterator
from typing import Any

import keras
import tensorflow as tf
from tensorboard.plugins.hparams import api as hparams

from jarn_tf import evaluation
from jarn_tf.evaluation.report import title_of
from jarn_tf.files import write_atomically
from jarn_tf.runs import evaluations
from jarn_tf.runs.config import Config
from jarn_tf.runs.presets import changed
from jarn_tf.runs.tables import settings_markdown
from jarn_tf.runs.workdir import Workdir


def hparams_callback(config: Config, folder: pathlib.Path) -> keras.callbacks.Callback:
    """For the HParams tab: which run it is, and what differs from its preset.

    The run's name there is its folder.
    """
    return hparams.KerasCallback(str(folder), _hparams(config), trial_id=str(folder))


def forget_after(run: Workdir, step: int) -> None:
    """Takes out what a run that was killed had written after the step that it goes on from.

    A plot would have these points twice.
    """
    for path in run.path.rglob("events.out.tfevents.*"):
        if not step:
            path.unlink()
            continue
        records = list(_whole_records(path))
        kept = [r for r in records if tf.compat.v1.Event.FromString(r).step <= step]
        if len(kept) < len(records):
            write_atomically(path, lambda temporary, kept=kept: _write_records(temporary, kept))


def _write_records(path: pathlib.Path, records: list[bytes]) -> None:
    with tf.io.TFRecordWriter(str(path)) as writer:
        for record in records:
            writer.write(record)


def _whole_records(path: pathlib.Path) -> Iterator[bytes]:
    """Without the last one where that was cut."""
    with contextlib.suppress(tf.errors.DataLossError):
        for record in tf.data.TFRecordDataset(str(path)):
            yield record.numpy()


def write_settings(config: Config, folder: pathlib.Path) -> None:
    """The settings for the Text tab."""
    with tf.summary.create_file_writer(str(folder)).as_default(step=0):
        tf.summary.text("settings", settings_markdown(config))


def write_accuracies(found: dict, run: Workdir) -> None:
    """An evaluation's accuracies, 0 to 1, as points at the run's last step and for HParams."""
    with tf.summary.create_file_writer(str(run.path / "test")).as_default(step=run.steps()):
        for row in found["attacks"]:
            at = f"_at_{row['epsilon']:.3g}" if row["epsilon"] else ""
            at = ("_l2" if row["norm"] == "l2" else "") + at
            name = title_of(row).replace(" ", "_")
            tf.summary.scalar(f"accuracy/{name}{at}", row["accuracy"])


def write_evaluations(run: Workdir) -> None:
    """Every evaluation in the folder with its verdict, for the Text tab, at the run's last step."""
    texts = [evaluation.report_markdown(found) for found in evaluations.read(run.path)]
    with tf.summary.create_file_writer(str(run.path / "test")).as_default(step=run.steps()):
        tf.summary.text("evaluation", "\n\n---\n\n".join(texts))


def _hparams(config: Config) -> dict[str, Any]:
    """As the plugin takes them: numbers, truth values, words."""
    shown = {
        "dataset": config.dataset,
        "defense": config.pair,
        "preset": config.preset,
        "seed": config.seed,
    }
    shown |= {name: getattr(config, name) for name in changed(config)}
    return {
        name: value if isinstance(value, (bool, int, float, str)) else str(value)
        for name, value in shown.items()
    }
