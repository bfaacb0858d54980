"""N-FGSM: the single step that starts in noise wider than the ball."""

from __future__ import annotations

import keras
import tensorflow as tf

from jarn_tf import arguments
from jarn_tf.attacks.adversarial_training import warmed_up
from jarn_tf.attacks.ascent import loss_and_gradient
from jarn_tf.attacks.linf import LinfBall
from jarn_tf.randomness import BatchSlice


@keras.saving.register_keras_serializable("jarn_tf")
class NFGSM:
    """Training examples of de Jorge et al. (2022), "Make Some Noise".

        noisy = clip(images + noise),                  noise uniform in [-k epsilon, k epsilon]
        result = clip(noisy + step_size * sign(gradient of the loss at noisy))

    `clip` is to [0, 1]. There is no projection onto the ball: a pixel ends up to (k + 1) epsilon
    from where it was. In the reference this keeps training with a single step from overfitting
    catastrophically. The classifier is attacked in inference mode, as in `AdversarialExamples`; the
    authors' code attacks it in training mode.

    Args:
        epsilon: L-infinity radius in pixel units of [0, 1].
        noise: k, in radii, above 0; 2 in the reference.
        step_size: Length of the step. None: epsilon.
        warmup_steps: Training steps over which noise and step size grow linearly from 0.

    Raises:
        ValueError: A value out of range.
    """

    def __init__(
        self,
        epsilon: float,
        noise: float = 2.0,
        step_size: float | None = None,
        warmup_steps: int = 0,
    ):
        arguments.radius(epsilon)
        arguments.positive("noise", noise)
        if step_size is not None:
            arguments.positive("step_size", step_size)
        arguments.whole("warmup_steps", warmup_steps, least=0)
        self.epsilon = float(epsilon)
        self.noise = noise
        self.step_size = step_size
        self.warmup_steps = warmup_steps

    def __call__(
        self, classifier: keras.Model, images: tf.Tensor, labels: tf.Tensor, batch: BatchSlice
    ) -> tf.Tensor:
        grown = tf.cast(warmed_up(batch.step, self.warmup_steps), images.dtype)
        noise = grown * self.noise * self.epsilon * batch.uniform(images, -1.0, 1.0)
        noisy = tf.clip_by_value(images + noise, 0.0, 1.0)
        *_, gradient = loss_and_gradient(classifier, noisy, labels, "cross_entropy")
        step_size = self.epsilon if self.step_size is None else self.step_size
        return tf.clip_by_value(noisy + grown * step_size * LinfBall.steepest(gradient), 0.0, 1.0)

    def get_config(self) -> dict:
        return {
            "epsilon": self.epsilon,
            "noise": self.noise,
            "step_size": self.step_size,
            "warmup_steps": self.warmup_steps,
        }

    @classmethod
    def from_config(cls, config: dict) -> NFGSM:
        return cls(**config)
