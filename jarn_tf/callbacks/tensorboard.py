"""TensorBoard: losses, accuracies and rates; a picture of the Jacobians."""

from __future__ import annotations

import os
import pathlib

import keras
import numpy as np
import tensorflow as tf

from jarn_tf.evaluation import jacobian_board, jacobian_pictures, jacobians_of
from jarn_tf.metrics import with_values

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
    """Writes scalars, and a picture of the Jacobians of a fixed batch, at the end of each epoch.

    Scalars go to `train/` and `validation/`: classification and adversarial loss, learning rates,
    and accuracies as shares from 0 to 1, those of the discriminator too. The horizontal axis is the
    training step.

    The picture, `jacobians` in `train/`, has a column an image: the input, its Jacobian and, for
    `JARN`, the adapted Jacobian. There is one of the untrained model, too. The scales are the same
    at every epoch, see `evaluation.jacobian_pictures`: an input is drawn from 0 to 1, a Jacobian in
    units of its own root mean square. How large the Jacobians are is the scalar `jacobian/norm`,
    the mean of their L2 norms.

    TensorBoard keeps 10 pictures of a tag unless it is started with
    `--samples_per_plugin=images=1000`; with 0 it shows none. Its plots choose their own axes.

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
        if self._step() == 0:
            self._write_jacobians()

    def on_epoch_end(self, epoch, logs=None):
        for name, value in with_values(logs).items():
            run = "validation" if name.startswith("val_") else "train"
            tag = _TAGS.get(name.removeprefix("val_"), name.removeprefix("val_"))
            with self.writers[run].as_default(step=self._step()):
                tf.summary.scalar(tag, value)
        with self.writers["train"].as_default(step=self._step()):
            for name in self.model.OPTIMIZERS:
                rate = tf.convert_to_tensor(getattr(self.model, name).learning_rate)
                tf.summary.scalar(f"learning_rate/{name.removesuffix('_optimizer')}", rate)
        self._write_jacobians()
        for writer in self.writers.values():
            writer.flush()

    def on_train_end(self, logs=None):
        for writer in self.writers.values():
            writer.close()

    def _write_jacobians(self):
        jacobians = jacobians_of(self.model, self.images, self.labels)
        norms = np.linalg.norm(jacobians.reshape(len(self.images), -1), axis=1)
        pictures = jacobian_pictures(self.model, self.images, jacobians)
        with self.writers["train"].as_default(step=self._step()):
            tf.summary.image("jacobians", jacobian_board(pictures)[None])
            tf.summary.scalar("jacobian/norm", norms.mean())

    def _step(self) -> int:
        return int(self.model.step)
