"""Callbacks: TensorBoard scalars and images, robust accuracy, collapse, history, checkpoints."""

from __future__ import annotations

import csv
import os
import pathlib

import keras
import numpy as np
import tensorflow as tf

from jarn_tf.evaluation import Attack, image_grid, jacobian_pictures, only_class, robustness
from jarn_tf.files import write_atomically

#: Name in Keras's logs to TensorBoard tag; the same tag in both runs, train and validation.
_TAGS = {
    "loss": "loss/classification",
    "adversarial_loss": "loss/adversarial",
    "penalty": "loss/penalty",
    "accuracy": "accuracy/clean",
    "robust_accuracy": "accuracy/robust",
    "discriminator_real_accuracy": "discriminator/accuracy_on_real_images",
    "discriminator_adapted_accuracy": "discriminator/accuracy_on_adapted_jacobians",
}


class TensorBoard(keras.callbacks.Callback):
    """Writes scalars, and images of the Jacobians of a fixed batch, at the end of each epoch.

    Scalars go to `train/` and `validation/`: classification and adversarial loss, accuracies,
    those of the discriminator on real and on adapted images, learning rates. Images go to
    `train/`: `input`, `jacobian` (grey is 0) and, for `JARN`, `adapted_jacobian`. The horizontal
    axis is the training step.

    Args:
        log_dir: Folder that `tensorboard --logdir` is given.
        images: Float images [n, height, width, channels] in [0, 1], 8 or 16 for a tidy picture.
        labels: Their labels [n].
    """

    def __init__(self, log_dir: str | os.PathLike, images: np.ndarray, labels: np.ndarray):
        super().__init__()
        self.log_dir = pathlib.Path(log_dir)
        self.images = images
        self.labels = labels

    def on_train_begin(self, logs=None):
        self.writers = {
            name: tf.summary.create_file_writer(str(self.log_dir / name))
            for name in ("train", "validation")
        }
        self._write_images()

    def on_epoch_end(self, epoch, logs=None):
        for name, value in (logs or {}).items():
            run = "validation" if name.startswith("val_") else "train"
            tag = _TAGS.get(name.removeprefix("val_"), name.removeprefix("val_"))
            with self.writers[run].as_default(step=self._step()):
                tf.summary.scalar(tag, value)
        with self.writers["train"].as_default(step=self._step()):
            for name in self.model.OPTIMIZERS:
                rate = tf.convert_to_tensor(getattr(self.model, name).learning_rate)
                tf.summary.scalar(f"learning_rate/{name.removesuffix('_optimizer')}", rate)
        self._write_images()
        for writer in self.writers.values():
            writer.flush()

    def on_train_end(self, logs=None):
        for writer in self.writers.values():
            writer.close()

    def _write_images(self):
        with self.writers["train"].as_default(step=self._step()):
            for tag, pictures in jacobian_pictures(self.model, self.images, self.labels).items():
                tf.summary.image(tag, image_grid(pictures)[None])

    def _step(self) -> int:
        return int(tf.convert_to_tensor(self.model.optimizer.iterations.value))


class RobustAccuracy(keras.callbacks.Callback):
    """Adds `val_robust_accuracy`, the accuracy under an attack, to the logs.

    Put it before callbacks that read the logs.

    Args:
        images: Float images [n, height, width, channels] in [0, 1].
        labels: Integer labels [n].
        attack: The attack.
        every: Epochs between two evaluations.
    """

    def __init__(self, images: np.ndarray, labels: np.ndarray, attack: Attack, every: int = 1):
        super().__init__()
        self.images = images
        self.labels = labels
        self.attack = attack
        self.every = every

    def on_epoch_end(self, epoch, logs=None):
        if logs is None or (epoch + 1) % self.every:
            return
        (row,) = robustness(
            self.model.classifier, self.images, self.labels, [self.attack], progress=False
        )
        logs["val_robust_accuracy"] = row["accuracy"]


class CollapseWarning(keras.callbacks.Callback):
    """Says after an epoch that the classifier gives every image the same class.

    Adversarial training at a large radius ends there if the radius does not grow slowly enough.

    Args:
        images: Float images [n, height, width, channels] in [0, 1], of several classes.
    """

    def __init__(self, images: np.ndarray):
        super().__init__()
        self.images = images

    def on_epoch_end(self, epoch, logs=None):
        found = only_class(self.model.classifier, self.images)
        if found is not None:
            print(
                f"Warning: after epoch {epoch + 1} the classifier takes all {len(self.images)} "
                f"validation images for class {found}. If that lasts, training has collapsed: "
                "raise epsilon_warmup_fraction, or lower epsilon or the regulariser's weight."
            )


class HistoryFile(keras.callbacks.Callback):
    """Keeps `history.csv`: one row an epoch, Keras's names, an empty cell where there is no value.

    Keras's own `CSVLogger` fixes the columns at the first epoch, before the adversarial losses
    exist, and repeats rows when a run resumes.

    Args:
        path: The file.
    """

    def __init__(self, path: str | os.PathLike):
        super().__init__()
        self.path = pathlib.Path(path)

    def on_epoch_end(self, epoch, logs=None):
        rows = self._rows_before(epoch)
        rows.append({"epoch": epoch, **{name: float(v) for name, v in (logs or {}).items()}})
        columns = list(dict.fromkeys(name for row in rows for name in row))

        def write(path):
            with open(path, "w", newline="") as file:
                writer = csv.DictWriter(file, columns)
                writer.writeheader()
                writer.writerows(rows)

        write_atomically(self.path, write)

    def _rows_before(self, epoch: int) -> list[dict]:
        if epoch == 0 or not self.path.exists():
            return []
        with open(self.path, newline="") as file:
            return [
                {name: value for name, value in row.items() if value != ""}
                for row in csv.DictReader(file)
                if int(row["epoch"]) < epoch
            ]


class CheckpointEachEpoch(keras.callbacks.Callback):
    """Saves everything that resuming needs at the end of each epoch.

    Put it last, so that an epoch that has a checkpoint has its row and its summaries too.

    Args:
        manager: The manager of a checkpoint of the model.

    Raises:
        ValueError: A weight is not finite; the checkpoints are left as they are.
    """

    def __init__(self, manager: tf.train.CheckpointManager):
        super().__init__()
        self.manager = manager

    def on_epoch_end(self, epoch, logs=None):
        if not all(np.isfinite(weight).all() for weight in self.model.get_weights()):
            raise ValueError(
                f"The weights are not finite after epoch {epoch + 1}. Training stopped; the last "
                "good checkpoint is kept. Lower the learning rate or the regulariser's weight."
            )
        self.manager.save(checkpoint_number=epoch + 1)
