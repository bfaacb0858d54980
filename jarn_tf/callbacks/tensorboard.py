"""TensorBoard: losses, accuracies and rates; pictures of the Jacobians."""

from __future__ import annotations

import os
import pathlib

import keras
import numpy as np
import tensorflow as tf

from jarn_tf.evaluation import image_grid, jacobian_pictures

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
