"""A whole run: `train` and `evaluate`, all that the launch binaries call."""

from __future__ import annotations

import dataclasses
import json
import os
import pathlib
import sys
import tempfile
from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from tensorboard.plugins.hparams import api as hparams

import jarn_tf
from jarn_tf import callbacks, checks, data, evaluation
from jarn_tf.builders import build_model, make_strategy
from jarn_tf.config import Config, defaults, positive, preset
from jarn_tf.defense import Defense
from jarn_tf.evaluation import Attack
from jarn_tf.files import write_atomically, write_json
from jarn_tf.resume import Parts, digest_of_arrays, digest_of_model

#: Images of the figure and of TensorBoard, and those of the robust accuracy of each epoch.
_SHOWN = 16
_ATTACKED_EACH_EPOCH = 500
#: Images that the masking verdict is judged from.
_JUDGED = 500


def train(
    config: Config, workdir: str | os.PathLike, list_of_attacks: Sequence[Attack] | None = None
) -> list[dict]:
    """Trains a run to its end, or continues it, and writes what it found into `workdir`.

    The files are `config.json`, `history.csv`, `train/` and `validation/` (TensorBoard),
    `checkpoints/`, `model.keras`, `classifier.keras`, `figures/jacobians.png` and
    `evaluation.json`; with `config.keep_best_robust` also `best_robust_classifier.keras` and
    `.json`, see `callbacks.RobustAccuracy`. The same call on an unfinished folder continues it and
    ends with the weights of an unbroken run; on a finished folder it trains nothing.

    Args:
        config: The run.
        workdir: Its folder; made if missing.
        list_of_attacks: What the result is attacked with on the test images; FGSM and PGD-40 at
            the run's radius unless told.

    Returns:
        The rows of `evaluation.json`: accuracy on clean and on attacked test images. Nothing on
        workers other than the first.

    Raises:
        ValueError: The folder holds another configuration, the batch is larger than the dataset,
            or training failed (not a finite loss).
        FileNotFoundError: The dataset is not there and cannot be fetched.
        OSError: The folder cannot be written.
    """
    workdir = pathlib.Path(workdir)
    refuse_other_config(config, workdir)
    refuse_unwritable(workdir)
    strategy = make_strategy(config.strategy, config.replicas)
    dataset = data.load(
        config.dataset, config.data_dir, config.train_examples, config.test_examples
    )
    steps_per_epoch = data.steps_per_epoch(dataset.train, config.batch_size)
    total_steps = config.epochs * steps_per_epoch

    keras.utils.set_random_seed(config.seed)
    with strategy.scope():
        model = build_model(config, dataset.image_shape, dataset.classes, total_steps)

    # Of several workers all have to take part in saving, but one owns the folder.
    chief = strategy.cluster_resolver is None or strategy.cluster_resolver.task_id == 0
    folder = workdir if chief else pathlib.Path(tempfile.mkdtemp())
    folder.mkdir(parents=True, exist_ok=True)
    if not (folder / "config.json").exists():
        write_json(folder / "config.json", {"config": config.as_dict(), "versions": versions()})
    checkpoint = tf.train.Checkpoint(model=model)
    epoch = _restore_newest(checkpoint, workdir / "checkpoints")
    if epoch == config.epochs:
        print(f"{workdir} is finished: {epoch} of {epoch} epochs are trained.")
    else:
        if epoch:
            print(f"Continuing {workdir} after {epoch} of {config.epochs} epochs.")
        manager = tf.train.CheckpointManager(checkpoint, str(folder / "checkpoints"), max_to_keep=2)
        _fit(model, config, dataset, manager, folder, epoch, steps_per_epoch)
    if not chief:
        return []
    if list_of_attacks is None:
        list_of_attacks = [Attack("fgsm", config.epsilon), Attack("pgd40", config.epsilon)]
    return _finish(model, config, dataset, workdir, list_of_attacks)


@dataclasses.dataclass(frozen=True)
class Target:
    """A classifier to evaluate, on the test images of a dataset.

    Attributes:
        classifier: Keras model from images in [0, 1] to logits.
        dataset: Name of the dataset.
        data_dir: TFDS folder, or None.
        examples: The first so many test images; None for all.
        epsilon: Radius to attack with unless told.
        output: Folder of `evaluation.json`.
    """

    classifier: keras.Model
    dataset: str
    data_dir: str | None
    examples: int | None
    epsilon: float
    output: pathlib.Path


def finished_run(workdir: str | os.PathLike) -> Target:
    """The classifier of a finished run. ValueError if the folder holds none."""
    settings = read_config(workdir)
    path = pathlib.Path(workdir) / "classifier.keras"
    if not path.exists():
        raise ValueError(f"The run in {workdir} is not finished. Run its training command again.")
    return Target(
        load_classifier(path),
        settings["dataset"],
        settings["data_dir"],
        settings["test_examples"],
        settings["epsilon"],
        pathlib.Path(workdir),
    )


def saved_model(path: str | os.PathLike, dataset: str, output: str | os.PathLike) -> Target:
    """A classifier of the user's own, or a saved `Defense`. ValueError if it cannot be loaded."""
    epsilon = preset(dataset).epsilon
    return Target(load_classifier(path), dataset, None, None, epsilon, pathlib.Path(output))


def evaluate(
    target: Target,
    list_of_attacks: Sequence[Attack],
    examples: int | None = None,
    data_dir: str | None = None,
    verdict_epsilon: float | None = None,
    seed: int = 0,
) -> list[dict]:
    """Attacks a classifier on test images and writes `evaluation.json`.

    Beside it `adversarial/epsilon_E.npz` of each radius, see `evaluation.robustness`, and, with a
    verdict, `figures/verdict.png`. While it runs, `evaluation_state/` holds what is done: the same
    call continues an interrupted evaluation and ends with the same results.

    Args:
        target: The classifier and what to evaluate it on.
        list_of_attacks: The attacks; clean accuracy comes first by itself.
        examples: The first so many test images; None for the target's.
        data_dir: TFDS folder; None for the target's.
        verdict_epsilon: Radius to judge gradient masking at, on the first 500 images; None for no
            verdict.
        seed: Seed of the verdict.

    Returns:
        The rows of `evaluation.json`, see `evaluation.robustness`.

    Raises:
        ValueError: The classifier does not fit the dataset's images, it does not return logits, or
            the folder holds another evaluation, unfinished.
        FileNotFoundError: The dataset is not there and cannot be fetched.
    """
    refuse_unwritable(target.output)
    if verdict_epsilon is not None:
        positive("The radius of a verdict", verdict_epsilon)
    dataset = data.load(
        target.dataset,
        data_dir or target.data_dir,
        test_examples=target.examples if examples is None else examples,
    )
    refuse_other_shape(target.classifier, target.dataset, dataset)
    parts = Parts(
        target.output / "evaluation_state",
        {
            "model": digest_of_model(target.classifier),
            "data": digest_of_arrays(dataset.test.images, dataset.test.labels),
            "epsilon": sorted({attack.epsilon for attack in list_of_attacks}),
            "attacks": sorted({attack.name for attack in list_of_attacks}),
            "verdict_epsilon": verdict_epsilon,
            "seed": seed,
            "versions": versions(),
            "settings": [dataclasses.asdict(attack) for attack in list_of_attacks],
        },
    )
    found = {"dataset": target.dataset} | evaluation.report(
        target.classifier,
        dataset.test.floats,
        dataset.test.labels,
        list_of_attacks,
        parts,
        target.output / "adversarial",
    )
    print(f"\n{evaluation.report_text(found)}\n")
    if verdict_epsilon is not None:
        judged = dataset.test.first(_JUDGED)
        verdict = evaluation.masking_verdict(
            target.classifier,
            judged.floats,
            judged.labels,
            epsilon=verdict_epsilon,
            seed=seed,
            progress=True,
            parts=parts,
        )
        print(f"{evaluation.verdict_text(verdict)}\n")
        found["verdict"] = verdict.as_dict()
        _draw_verdict(verdict, target)
    write_json(target.output / "evaluation.json", found | {"versions": versions()})
    parts.discard()
    return found["attacks"]


def _draw_verdict(verdict: evaluation.Verdict, target: Target) -> None:
    figure = target.output / "figures" / "verdict.png"
    figure.parent.mkdir(exist_ok=True)
    title = (
        f"{target.dataset}, first {verdict.examples} test images: gradients {verdict.label}"
        f" at {verdict.epsilon:.3g}"
    )
    write_atomically(
        figure,
        lambda path: evaluation.verdict_figure(path, verdict.accuracies, verdict.epsilon, title),
    )
    print(f"Figure: {figure}\n")


def load_classifier(path: str | os.PathLike) -> keras.Model:
    """A saved classifier, or that of a saved `Defense`. ValueError if it cannot be loaded."""
    try:
        model = keras.models.load_model(path, compile=False)
    except Exception as error:  # Keras raises many kinds for a file that is no model
        raise ValueError(f"{path} cannot be loaded as a Keras model: {error}") from None
    return model.classifier if isinstance(model, Defense) else model


def refuse_other_shape(classifier: keras.Model, name: str, dataset: data.Dataset) -> None:
    """Raises ValueError unless a classifier has the dataset's image shape and classes."""
    checks.classifier(classifier)
    shape = tuple(classifier.input_shape[1:]), classifier.output_shape[-1]
    if shape != (dataset.image_shape, dataset.classes):
        raise ValueError(
            f"The classifier does not fit {name}, which has images {dataset.image_shape} of "
            f"{dataset.classes} classes. Received a classifier of images {shape[0]} with "
            f"{shape[1]} classes."
        )


def read_evaluation(workdir: pathlib.Path) -> dict | None:
    """A run's `evaluation.json`; None where there is none or it cannot be read."""
    try:
        found = json.loads((workdir / "evaluation.json").read_text())
        return (
            found
            if {"examples", "attacks", "saliency", "collapsed_to_class"} <= set(found)
            else None
        )
    except (OSError, TypeError, ValueError):
        return None


def _fit(
    model: Defense,
    config: Config,
    dataset: data.Dataset,
    manager: tf.train.CheckpointManager,
    workdir: pathlib.Path,
    epoch: int,
    steps_per_epoch: int,
) -> None:
    attacked = dataset.validation.first(_ATTACKED_EACH_EPOCH)
    shown = dataset.validation.first(_SHOWN)
    several = len(np.unique(attacked.labels)) > 1
    robust_accuracy = callbacks.RobustAccuracy(
        attacked.floats,
        attacked.labels,
        Attack("pgd10", config.epsilon),
        config.robust_every,
        workdir / "best_robust_classifier.keras" if config.keep_best_robust else None,
    )
    warnings = [callbacks.CollapseWarning(attacked.floats)] if several else []
    if config.perturbation in ("fgsm", "pgd", "pgd_kl"):
        warnings.append(callbacks.CatastrophicOverfittingWarning(robust_accuracy))
    if config.regularizer == "jarn":
        warnings.append(callbacks.DiscriminatorWonWarning())
        if several:
            warnings.append(callbacks.ConstantAdaptorWarning(attacked.floats, attacked.labels))
    model.fit(
        data.training_batches(
            dataset.train,
            config.batch_size,
            config.seed,
            epoch * steps_per_epoch,
            config.epochs * steps_per_epoch,
            config.augment,
        ),
        validation_data=data.batches(dataset.validation, config.batch_size),
        initial_epoch=epoch,
        epochs=config.epochs,
        steps_per_epoch=steps_per_epoch,
        shuffle=False,  # the batches come shuffled
        verbose=1 if sys.stdout.isatty() else 2,
        callbacks=[
            robust_accuracy,
            *warnings,
            hparams.KerasCallback(str(workdir), _hparams(config)),
            callbacks.TensorBoard(workdir, shown.floats, shown.labels),
            callbacks.HistoryFile(workdir / "history.csv"),
            callbacks.CheckpointEachEpoch(manager),
        ],
    )


def _hparams(config: Config) -> dict[str, Any]:
    """The settings as TensorBoard's HParams plugin takes them: numbers, truth values, words."""
    return {
        name: value if isinstance(value, (bool, int, float, str)) else str(value)
        for name, value in config.as_dict().items()
    }


def _restore_newest(checkpoint: tf.train.Checkpoint, folder: pathlib.Path) -> int:
    """Restores the newest checkpoint that can be read; returns the epochs behind it."""
    state = tf.train.get_checkpoint_state(str(folder))
    for path in reversed(state.all_model_checkpoint_paths if state else []):
        try:
            checkpoint.restore(path).assert_existing_objects_matched()
        # What TensorFlow raises for a damaged, an empty, a lost or a cut file.
        except (tf.errors.OpError, AssertionError, ValueError, IndexError) as error:
            reason = str(error).splitlines()[0]
            print(f"Checkpoint {path} cannot be read ({reason}); trying the one before.")
            continue
        return int(path.rsplit("-", 1)[1])
    return 0


def _finish(
    model: Defense,
    config: Config,
    dataset: data.Dataset,
    workdir: pathlib.Path,
    list_of_attacks: Sequence[Attack],
) -> list[dict]:
    """Writes what is not there yet: models, figure, evaluation."""
    for name, network in (("model.keras", model), ("classifier.keras", model.classifier)):
        if not (workdir / name).exists():
            write_atomically(workdir / name, network.save)
    figure = workdir / "figures" / "jacobians.png"
    if not figure.exists():
        figure.parent.mkdir(exist_ok=True)
        shown = dataset.test.first(_SHOWN)
        pictures = evaluation.jacobian_pictures(model, shown.floats, shown.labels)
        title = f"{config.dataset}, {config.pair}, preset {config.preset}, seed {config.seed}"
        write_atomically(
            figure,
            lambda path: evaluation.jacobian_figure(path, pictures, shown.labels, title),
        )
    found = read_evaluation(workdir)
    if found is None:
        found = {"dataset": config.dataset} | evaluation.report(
            model.classifier, dataset.test.floats, dataset.test.labels, list_of_attacks
        )
        write_json(workdir / "evaluation.json", found | {"versions": versions()})
        _write_test_summaries(found, workdir)
    print(f"\n{evaluation.report_text(found)}\n")
    print(f"Figure:      {figure}")
    # By its module, as the virtual environment need not be active.
    print(f"TensorBoard: {sys.executable} -m tensorboard.main --logdir {workdir}")
    return found["attacks"]


def _write_test_summaries(found: dict, workdir: pathlib.Path) -> None:
    """Final accuracies for TensorBoard, where its HParams plugin compares runs by them."""
    with tf.summary.create_file_writer(str(workdir / "test")).as_default(step=0):
        for row in found["attacks"]:
            tf.summary.scalar(f"accuracy/{row['name']}", row["accuracy"])


def refuse_other_config(config: Config, workdir: pathlib.Path) -> None:
    """Raises ValueError if the folder holds a run of another configuration."""
    path = workdir / "config.json"
    if not path.exists():
        if (workdir / "checkpoints").exists():
            raise ValueError(
                f"{workdir} holds checkpoints but no config.json to say of what. Name another "
                "--workdir."
            )
        return
    # A run made before a setting existed has the value that settings have unless told.
    there = defaults() | read_config(workdir)
    here = config.as_dict()
    changed = [
        f"{name} (there {there.get(name)!r}, now {here.get(name)!r})"
        for name in here | there
        if name != "data_dir" and there.get(name) != here.get(name)
    ]
    if changed:
        raise ValueError(
            f"{workdir} holds a run of another configuration. Different: {', '.join(changed)}. "
            "Name another --workdir, or the settings of that run."
        )


def read_config(workdir: str | os.PathLike) -> dict[str, Any]:
    """The flat settings that a run's `config.json` holds. ValueError if it cannot be read."""
    path = pathlib.Path(workdir) / "config.json"
    try:
        return dict(json.loads(path.read_text())["config"])
    except (OSError, KeyError, TypeError, ValueError) as error:
        raise ValueError(
            f"{workdir} holds no readable run ({error}). Name the --workdir of a run."
        ) from None


def refuse_unwritable(workdir: pathlib.Path) -> None:
    """Finds out before the work, without writing, whether the folder can be written."""
    existing = workdir
    while not existing.exists():
        existing = existing.parent
    if not existing.is_dir() or not os.access(existing, os.W_OK | os.X_OK):
        raise PermissionError(
            f"{workdir} cannot be written: {existing} is no folder that this user can write to. "
            "Name another folder."
        )


def versions() -> dict[str, str]:
    """Versions of what a result depends on."""
    return {
        "jarn_tf": jarn_tf.__version__,
        "python": sys.version.split()[0],
        "tensorflow": tf.__version__,
        "keras": keras.__version__,
        "numpy": np.__version__,
    }
