"""`train`: a whole run, all that `launch.train` calls."""

from __future__ import annotations

import dataclasses
import os
import pathlib
import shutil
import sys
import tempfile
import time
from collections.abc import Sequence

import keras
import numpy as np
import tensorflow as tf

from jarn_tf import callbacks, data, evaluation
from jarn_tf.defense import Defense
from jarn_tf.digests import digest_of_model
from jarn_tf.evaluation import Attack
from jarn_tf.files import is_whole_archive, write_atomically, write_json
from jarn_tf.runs import evaluations, summaries
from jarn_tf.runs.builders import build_model, make_strategy
from jarn_tf.runs.config import ADVERSARIAL, NO_EFFECT, Config
from jarn_tf.runs.evaluating import measured
from jarn_tf.runs.saved import modules_of
from jarn_tf.runs.workdir import Workdir, locked, refuse_unwritable, versions
from jarn_tf.workers import Workers

#: Images of the figure and of TensorBoard, and those of the robust accuracy of each epoch.
_SHOWN = 16
_ATTACKED_EACH_EPOCH = 500


def train(
    config: Config, workdir: str | os.PathLike, list_of_attacks: Sequence[Attack] | None = None
) -> dict | None:
    """Trains a run to its end, or continues it, and writes what it found into `workdir`.

    The files are those of `runs.workdir`; with `config.keep_best_robust` also
    `best_robust_classifier.keras` and `.json`, see `callbacks.RobustAccuracy`. The same call on an
    unfinished folder continues it and ends with the weights of an unbroken run; on a finished
    folder it trains nothing.

    Args:
        config: The run.
        workdir: Its folder; made if missing.
        list_of_attacks: What the result is attacked with on the test images; FGSM and PGD-40 at
            the run's radius unless told.

    Returns:
        The evaluation on the test images, as `runs.evaluations` says. None on workers other than
        the first.

    Raises:
        ValueError: The folder holds another configuration, a run of other images, or a finished
            run whose checkpoints cannot be read, the batch is larger than the dataset, or training
            failed (not a finite loss).
        FileNotFoundError: The dataset is not there and cannot be fetched.
        OSError: The folder cannot be written.
        ConnectionError: Another worker is gone.
    """
    run = Workdir(pathlib.Path(workdir))
    if list_of_attacks is None:
        list_of_attacks = [Attack("fgsm", config.epsilon), Attack("pgd40", config.epsilon)]
    if config.deterministic:
        tf.config.experimental.enable_op_determinism()
    strategy = make_strategy(config.strategy, config.replicas)
    workers = Workers(strategy)
    with workers.together():
        settings = {name: v for name, v in config.as_dict().items() if name not in NO_EFFECT}
        workers.agree(settings | versions())
        run.refuse_other_config(config)
        refuse_unwritable(run.path)
        dataset = _loaded(config)
        run.refuse_other_data(config.dataset, dataset.digest)
        checkpoints = [path.name for path in callbacks.checkpoints.in_folder(run.checkpoints)]
        workers.agree({"images": dataset.digest, "checkpoints": checkpoints})
        steps = config.epochs * data.steps_per_epoch(dataset.train, config.batch_size)
        keras.utils.set_random_seed(config.seed)
        with strategy.scope():
            model = build_model(_begun(config, run), dataset.image_shape, dataset.classes, steps)
        # Of several workers all have to take part in saving, but one owns the folder.
        with workers.first_holds(locked(run.path)):
            _go_on(model, config, dataset, run, workers.first, list_of_attacks)
            if workers.first:
                return _finish(model, config, dataset, run, list_of_attacks)
    return None


def _loaded(config: Config) -> data.Dataset:
    return data.load(
        config.dataset,
        config.data_dir,
        config.train_examples,
        config.test_examples,
        config.image_size,
        config.memory_share,
    )


def _go_on(
    model: Defense,
    config: Config,
    dataset: data.Dataset,
    run: Workdir,
    first: bool,
    list_of_attacks: Sequence[Attack],
) -> None:
    """Trains to the end from where the run stands."""
    mine = run if first else Workdir(pathlib.Path(tempfile.mkdtemp()))
    if not first and run.history.exists():
        shutil.copy(run.history, mine.history)  # whose rows the checkpoint has the digest of
    history = callbacks.HistoryFile(mine.history)
    watching = _watching(config, dataset.validation.first(_ATTACKED_EACH_EPOCH), mine)
    remembering = [*watching, history]
    backup = callbacks.Backup(run.checkpoints, model, config.checkpoint_seconds, remembering)
    begun = backup.initial_epoch or backup.steps_done
    if not begun and run.classifier.exists():
        raise ValueError(
            f"{run.path} holds a finished run, but no checkpoint that this version can read, and "
            "training it again would leave the classifier of the one and the evaluation of the "
            "other. Name another --workdir, or evaluate it by launch.evaluate."
        )
    if not begun and first and run.history.exists():
        print(f"{run.checkpoints} has no checkpoint any more: training begins anew.")
    if backup.initial_epoch == config.epochs:
        history.check(config.epochs)
        print(f"{run.path} is finished: {config.epochs} of {config.epochs} epochs are trained.")
        return
    steps_per_epoch = data.steps_per_epoch(dataset.train, config.batch_size)
    print(_heading(config, dataset, run.path, steps_per_epoch))
    if config.init_from and first and not begun:
        _keep_before(model, config, dataset, run, list_of_attacks)
    if begun:
        more = f" and {backup.steps_done} steps" if backup.steps_done else ""
        done = f"{backup.initial_epoch} of {config.epochs} epochs{more}"
        print(f"Continuing {run.path} after {done}.")
    mine.write_config(config, config.epochs * steps_per_epoch, dataset.digest)
    summaries.forget_after(mine, int(model.step))
    summaries.write_settings(config, mine.path)
    others = [*watching, *_writing(config, dataset, mine), history, callbacks.EpochLine()]
    started = time.process_time()
    _fit(model, config, dataset, backup, others)
    if not begun:
        write_json(mine.cost, {"cpu_minutes": (time.process_time() - started) / 60})


def _begun(config: Config, run: Workdir) -> Config:
    """What to build the model of: with a checkpoint, that does not need the file of `init_from`.

    Without one the file is read again, as the other networks are drawn after it.
    """
    if config.init_from is None or not callbacks.checkpoints.in_folder(run.checkpoints):
        return config
    copy = str(run.classifier_before)
    return dataclasses.replace(config, init_from=copy, pixel_scale=1.0, probabilities=False)


def _fit(
    model: Defense,
    config: Config,
    dataset: data.Dataset,
    backup: callbacks.Backup,
    others: Sequence[keras.callbacks.Callback],
) -> None:
    """Trains from where the backup stands to the end."""
    steps_per_epoch = data.steps_per_epoch(dataset.train, config.batch_size)
    model.fit(
        model.distribute_strategy.distribute_datasets_from_function(
            lambda worker: data.training_batches(
                dataset.train,
                config.batch_size,
                config.seed,
                backup.initial_epoch * steps_per_epoch,
                config.epochs * steps_per_epoch,
                config.augment,
                worker,
            )
        ),
        validation_data=data.batches(dataset.validation, config.batch_size),
        initial_epoch=backup.initial_epoch,
        epochs=config.epochs,
        steps_per_epoch=steps_per_epoch,
        shuffle=False,  # the batches come shuffled
        verbose=0,
        callbacks=[*others, backup],
    )


def _writing(config: Config, dataset: data.Dataset, run: Workdir) -> list[keras.callbacks.Callback]:
    """What is written for TensorBoard."""
    shown = dataset.validation.first(_SHOWN)
    return [
        summaries.hparams_callback(config, run.path),
        callbacks.TensorBoard(run.path, shown.floats, shown.labels),
    ]


def _keep_before(
    model: Defense,
    config: Config,
    dataset: data.Dataset,
    run: Workdir,
    list_of_attacks: Sequence[Attack],
) -> None:
    """Attacks the classifier that is to be trained on, and keeps it and what was found.

    Before anything is written it turns out here whether the classifier returns probabilities.
    """
    found = measured(model.classifier, config.dataset, dataset.test, list_of_attacks)
    run.path.mkdir(parents=True, exist_ok=True)
    write_atomically(run.classifier_before, model.classifier.save)
    write_json(run.before, found)
    print("\n".join([f"Before: {evaluation.in_words(found)}", *evaluation.warnings_of(found)]))


def _heading(
    config: Config, dataset: data.Dataset, path: pathlib.Path, steps_per_epoch: int
) -> str:
    """What is trained, on what, in which phases, and where it is written."""
    lines = [
        f"{config.pair}, preset {config.preset}, seed {config.seed}: {len(dataset.train):,} images "
        f"of {config.dataset}, {config.epochs} epoch{'s' * (config.epochs > 1)} of "
        f"{steps_per_epoch} steps."
    ]
    first = config.jarn_start_fraction * config.epochs  # of JARN's phase, in epochs
    if config.regularizer == "jarn" and first:
        lines.append(f"JARN's phase begins after {first:g} epochs.")
    return "\n".join([*lines, f"Folder: {path}"])


def _watching(config: Config, attacked: data.Split, run: Workdir) -> list[keras.callbacks.Callback]:
    """The robust accuracy of each epoch, and the warnings that fit the defense."""
    robust_accuracy = callbacks.RobustAccuracy(
        attacked.floats,
        attacked.labels,
        Attack("pgd10", config.epsilon),
        config.robust_every,
        run.best_robust_classifier if config.keep_best_robust else None,
    )
    several = len(np.unique(attacked.labels)) > 1
    warnings = [callbacks.CollapseWarning(attacked.floats)] if several else []
    if config.perturbation in ADVERSARIAL:
        warnings.append(callbacks.CatastrophicOverfittingWarning(robust_accuracy))
    if config.regularizer == "jarn":
        warnings.append(callbacks.DiscriminatorWonWarning())
        if several:
            warnings.append(callbacks.ConstantAdaptorWarning(attacked.floats, attacked.labels))
    return [robust_accuracy, *warnings]


def _finish(
    model: Defense,
    config: Config,
    dataset: data.Dataset,
    run: Workdir,
    list_of_attacks: Sequence[Attack],
) -> dict:
    """Writes what is not there yet: models, figure, evaluation."""
    for path, network in ((run.model, model), (run.classifier, model.classifier)):
        if path.exists() and not is_whole_archive(path):
            print(f"{path} is damaged and is written anew.")
            path.unlink()
        if not path.exists():
            write_atomically(path, network.save)
    if not run.jacobians.exists():
        _draw_jacobians(model, config, dataset.test.first(_SHOWN), run.jacobians)
    found = evaluations.find(
        run.path,
        list_of_attacks,
        len(dataset.test),
        dataset.classes,
        model=digest_of_model(model.classifier),
    )
    if found is None:
        found = measured(model.classifier, config.dataset, dataset.test, list_of_attacks)
        evaluations.add(run.path, found)
        summaries.write_accuracies(found, run)
        summaries.write_evaluations(run)
    print(f"\n{evaluation.report_text(found)}\n")
    print(f"Figure:      {run.jacobians}")
    # By its module, as the virtual environment need not be active. Unless told, TensorBoard shows
    # 10 pictures of a tag, and with 0 none.
    command = f"{sys.executable} -m tensorboard.main --samples_per_plugin=images=1000"
    print(f"TensorBoard: {command} --logdir {run.path}")
    installed = pathlib.Path(sys.argv[0]).stem == "jarn-train"  # from a wheel, without `launch`
    ask = "jarn-evaluate" if installed else "python -m launch.evaluate"
    ask += f" --workdir={run.path} --attacks=autoattack --verdict"
    modules = ",".join(modules_of(model.classifier))
    ask += f" --import={modules}" if modules else ""
    for before in evaluations.read(run.path, run.before.name):
        print(f"\nBefore: {evaluation.in_words(before)}")
    print(f"\n{evaluation.in_words(found)}\nHow robust it really is: {ask}")
    return found


def _draw_jacobians(model: Defense, config: Config, shown: data.Split, path: pathlib.Path) -> None:
    path.parent.mkdir(exist_ok=True)
    jacobians = evaluation.jacobians_of(model, shown.floats, shown.labels)
    pictures = evaluation.jacobian_pictures(model, shown.floats, jacobians)
    title = (
        f"{config.dataset}, {config.pair}, preset {config.preset}, seed {config.seed}\n"
        f"Jacobian: gradient of the {evaluation.differentiated(model)} (grey is 0)"
    )
    if "adapted_jacobian" in pictures:
        title += "; adapted: what the discriminator sees"
    write_atomically(
        path,
        lambda temporary: evaluation.jacobian_figure(temporary, pictures, shown.labels, title),
    )
