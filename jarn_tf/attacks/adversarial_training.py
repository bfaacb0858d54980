"""Adversarial training examples: FGSM-AT, PGD-AT and the inner problem of TRADES."""

from __future__ import annotations

import keras
import tensorflow as tf

from jarn_tf import arguments
from jarn_tf.attacks.ascent import loss_and_gradient
from jarn_tf.attacks.ball import BALLS
from jarn_tf.attacks.pgd import default_step_size
from jarn_tf.precision import at_least_float32
from jarn_tf.randomness import BatchSlice


@keras.saving.register_keras_serializable("jarn_tf")
class AdversarialExamples:
    """The inner maximisation of Eq. 3: each training image moved up its loss, by Eq. 4.

    FGSM-AT1 of the paper is `AdversarialExamples(epsilon, steps=1, random_start=False)`, PGD-AT7
    is `AdversarialExamples(epsilon)`. The last point is trained on, as Madry et al. (2018) do.
    The classifier is attacked in inference mode, so that its batch statistics stay those of the
    training step alone.

    Args:
        epsilon: Radius, pixels being in [0, 1].
        steps: Gradient steps; 7 in the paper.
        step_size: Step eta of Eq. 4. None: of several steps `attacks.default_step_size`, which is
            2/255 at 8/255 and 7 steps (Madry et al.); a single step is epsilon long from the image
            and 1.25 epsilon from a random start (Wong et al., 2020).
        random_start: Whether to start at a uniform point of the ball, or at the image.
        warmup_steps: Training steps over which radius and step size grow linearly from 0. From
            scratch at 0.3 on MNIST training otherwise ends in a constant classifier.
        targets: What the loss that is climbed compares the logits with: `"labels"`, or
            `"predictions"` on the unperturbed images, which climbs the KL divergence between the
            two predictions (TRADES, Zhang et al., 2019). The latter has no gradient at the image
            itself and needs a random start; TRADES starts at Gaussian noise of deviation 0.001.
        norm: What epsilon is measured in: `"linf"` or `"l2"`.

    Raises:
        ValueError: A value out of range, or predictions as targets without a random start.
    """

    def __init__(
        self,
        epsilon: float,
        steps: int = 7,
        step_size: float | None = None,
        random_start: bool = True,
        warmup_steps: int = 0,
        targets: str = "labels",
        norm: str = "linf",
    ):
        arguments.radius(epsilon, norm=norm)
        self.steps = arguments.whole("steps", steps)
        if step_size is not None:
            arguments.positive("step_size", step_size)
        self.warmup_steps = arguments.whole("warmup_steps", warmup_steps, least=0)
        arguments.one_of("targets", targets, ("labels", "predictions"))
        if targets == "predictions" and not random_start:
            raise ValueError(
                "targets='predictions' needs random_start=True: at the image itself the divergence "
                "is at its minimum and has no gradient. Received: random_start=False."
            )
        self.epsilon = float(epsilon)
        self.step_size = step_size
        self.random_start = random_start
        self.targets = targets
        self.norm = norm

    def __call__(
        self, classifier: keras.Model, images: tf.Tensor, labels: tf.Tensor, batch: BatchSlice
    ) -> tf.Tensor:
        if self.targets == "predictions":
            labels = tf.nn.softmax(at_least_float32(classifier(images, training=False)))
        grown = warmed_up(batch.step, self.warmup_steps)
        epsilon = self.epsilon * grown
        ball = BALLS[self.norm].around(images, epsilon)
        start = images
        if self.random_start:
            noise = tf.cast(epsilon, images.dtype) * batch.uniform(images, -1.0, 1.0)
            start = ball.project(images + ball.fill(noise, epsilon))
        step_size = tf.cast(self._step_size() * grown, images.dtype)
        return _ascend(classifier, labels, start, ball, step_size, tf.constant(self.steps))

    def _step_size(self) -> float:
        if self.step_size is not None:
            return self.step_size
        if self.steps == 1:
            return self.epsilon * (1.25 if self.random_start else 1.0)
        return default_step_size(self.epsilon, self.steps)

    def get_config(self) -> dict:
        return {
            "epsilon": self.epsilon,
            "steps": self.steps,
            "step_size": self.step_size,
            "random_start": self.random_start,
            "warmup_steps": self.warmup_steps,
            "targets": self.targets,
            "norm": self.norm,
        }

    @classmethod
    def from_config(cls, config: dict) -> AdversarialExamples:
        return cls(**config)


def warmed_up(step: tf.Tensor, warmup_steps: int) -> tf.Tensor:
    """Share of the radius at a training step counted from 0, float64: linear from 0 up to 1."""
    full = tf.constant(1.0, tf.float64)
    if not warmup_steps:
        return full
    return tf.minimum(full, tf.cast(step + 1, tf.float64) / warmup_steps)


@tf.function(reduce_retracing=True)
def _ascend(classifier, labels, start, ball, step_size, steps):
    """The loop of Eq. 4 in one compiled piece; the last point."""
    images = start
    for _ in tf.range(steps):
        *_, gradient = loss_and_gradient(classifier, images, labels, "cross_entropy")
        images = ball.project(images + step_size * ball.steepest(gradient))
    return images
