"""The other regularisers: what JARN is compared with, each a `Defense` with a penalty."""

from __future__ import annotations

from typing import Any

import keras
import tensorflow as tf

from jarn_tf import arguments, losses
from jarn_tf.defense import Defense, Perturbation
from jarn_tf.jacobian import logits_and_jacobian
from jarn_tf.metrics import SeldomMean
from jarn_tf.precision import at_least_float32, input_gradient
from jarn_tf.randomness import BatchSlice


class Penalized(Defense):
    """Minimises L_cls + penalty_weight * (mean over the images of a penalty).

    Args:
        classifier: As in `Defense`.
        penalty_weight: Factor of the penalty, at least 0.
        perturb: As in `Defense`.
        seed: As in `Defense`.
    """

    SETTINGS = (*Defense.SETTINGS, "penalty_weight")

    def __init__(
        self,
        classifier: keras.Model,
        penalty_weight: float,
        perturb: Perturbation | None = None,
        seed: int = 0,
        **kwargs: Any,
    ):
        super().__init__(classifier, perturb=perturb, seed=seed, **kwargs)
        self.penalty_weight = penalty_weight
        Penalized.check_settings(self)
        self.regularizer_metrics = [SeldomMean("penalty")]

    def check_settings(self) -> None:
        super().check_settings()
        arguments.not_negative("penalty_weight", self.penalty_weight)

    def penalties(
        self, clean: tf.Tensor, images: tf.Tensor, labels: tf.Tensor, batch: BatchSlice
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """Logits [batch, classes] that L_cls is of, and the penalty [batch] of each image."""
        raise NotImplementedError

    def _logits_and_penalty(self, kind, clean, images, labels, batch):
        del kind
        logits, penalties = self.penalties(clean, images, labels, batch)
        self.regularizer_metrics[0].update_state(penalties)
        return logits, self.penalty_weight * batch.mean(penalties)

    def train_step(self, data: Any, kind: str = Defense.CLASSIFIER) -> dict[str, tf.Tensor]:
        return super().train_step(data, kind) | self._regularizer_results()


class JacobianPenalty(Penalized):
    """A penalty on a Jacobian, which may rest on most steps.

    Args:
        classifier, penalty_weight, perturb, seed: As in `Penalized`.
        regularization_interval: n: the penalty counts on steps 0, n, 2n, ... alone, n times as
            much. The others cost as much as plain training. StyleGAN2's lazy regularisation
            (Karras et al., 2020), as in `JARN`.
    """

    RESTING = "penalty rests"
    SETTINGS = (*Penalized.SETTINGS, "regularization_interval")

    def __init__(
        self,
        classifier: keras.Model,
        penalty_weight: float,
        regularization_interval: int = 1,
        **kwargs: Any,
    ):
        super().__init__(classifier, penalty_weight, **kwargs)
        self.regularization_interval = regularization_interval
        JacobianPenalty.check_settings(self)

    def check_settings(self) -> None:
        super().check_settings()
        arguments.whole("regularization_interval", self.regularization_interval)

    def kind_of_step(self, step: int) -> str:
        return self.RESTING if step % self.regularization_interval else self.CLASSIFIER

    def _logits_and_penalty(self, kind, clean, images, labels, batch):
        if kind == self.RESTING:
            return Defense._logits_and_penalty(self, kind, clean, images, labels, batch)
        logits, penalty = super()._logits_and_penalty(kind, clean, images, labels, batch)
        return logits, self.regularization_interval * penalty


@keras.saving.register_keras_serializable("jarn_tf")
class InputGradientPenalty(JacobianPenalty):
    """Double backpropagation: the norm of the gradient of L_cls with respect to the image.

    Drucker & Le Cun (1991), Ross & Doshi-Velez (2018): `norm="l2"`, the squared L2 norm, which is
    the paper's Double Backprop. `norm="l1"`, the sum of magnitudes, is to first order what an
    L-infinity perturbation of radius `penalty_weight` adds to the loss (Simon-Gabriel et al.,
    2019).

    Args:
        classifier, penalty_weight, perturb, seed, regularization_interval: As in `JacobianPenalty`.
        norm: `"l2"` or `"l1"`.
    """

    SETTINGS = (*JacobianPenalty.SETTINGS, "norm")

    def __init__(
        self, classifier: keras.Model, penalty_weight: float, norm: str = "l2", **kwargs: Any
    ):
        super().__init__(classifier, penalty_weight, **kwargs)
        self.norm = norm
        self.check_settings()

    def check_settings(self) -> None:
        super().check_settings()
        arguments.one_of("norm", self.norm, ("l2", "l1"))

    def penalties(self, clean, images, labels, batch):
        logits, jacobian = logits_and_jacobian(
            self.classifier, images, labels, training=True, loss=self.loss_of_each
        )
        sizes = tf.square(jacobian) if self.norm == "l2" else tf.abs(jacobian)
        return logits, tf.reduce_sum(sizes, axis=[1, 2, 3])


@keras.saving.register_keras_serializable("jarn_tf")
class LogitJacobianPenalty(JacobianPenalty):
    """The squared Frobenius norm of the Jacobian [classes, pixels] of all logits.

    Estimated without bias from random projections (Hoffman et al., 2019): for v uniform on the
    unit sphere, classes * E |v^T J|^2 = |J|_F^2. Their loss has half of this norm.

    Args:
        classifier, penalty_weight, perturb, seed, regularization_interval: As in `JacobianPenalty`.
        projections: Random directions v an image; 1 in the reference.
    """

    SETTINGS = (*JacobianPenalty.SETTINGS, "projections")

    def __init__(
        self, classifier: keras.Model, penalty_weight: float, projections: int = 1, **kwargs: Any
    ):
        super().__init__(classifier, penalty_weight, **kwargs)
        self.projections = projections
        self.check_settings()

    def check_settings(self) -> None:
        super().check_settings()
        arguments.whole("projections", self.projections)

    def penalties(self, clean, images, labels, batch):
        with tf.GradientTape(persistent=True) as tape:
            tape.watch(images)
            logits = at_least_float32(self.classifier(images, training=True))
            directions = batch.directions(logits, self.projections)
            totals = [tf.reduce_sum(logits * directions[k]) for k in range(self.projections)]
        squares = [
            tf.reduce_sum(tf.square(gradient), axis=[1, 2, 3])
            for gradient in (
                input_gradient(tape, total, images, self.classifier) for total in totals
            )
        ]
        return logits, logits.shape[-1] / self.projections * tf.add_n(squares)


@keras.saving.register_keras_serializable("jarn_tf")
class TRADES(Penalized):
    """The divergence between the predictions on clean and on perturbed images (Zhang et al., 2019).

    L_cls is of the clean images here, the penalty is KL(p(clean) || p(perturbed)), its weight is
    the reference's 1/lambda (6 there). The reference perturbs by PGD on that divergence:
    `AdversarialExamples(epsilon, steps=10, targets="predictions")`.

    Args:
        classifier, penalty_weight, perturb, seed: As in `Penalized`.
    """

    def penalties(self, clean, images, labels, batch):
        logits = at_least_float32(self.classifier(clean, training=True))
        perturbed = at_least_float32(self.classifier(images, training=True))
        probabilities = tf.nn.softmax(logits)
        divergence = losses.cross_entropy(probabilities, perturbed) - losses.cross_entropy(
            probabilities, logits
        )
        return logits, divergence


@keras.saving.register_keras_serializable("jarn_tf")
class GradientAlignment(Penalized):
    """One minus the cosine between the loss's gradients at the image and at a point near it.

        1 - cos(grad_x L(x), grad_x L(x + eta)),    eta uniform in [-epsilon, epsilon]

    Andriushchenko & Flammarion (2020, Section 4): a loss that is linear over the ball has 0, so the
    penalty keeps FGSM's single step from overfitting catastrophically. x is the clean image; L_cls
    is of the perturbed ones, which in the reference are those of FGSM without a random start:
    `AdversarialExamples(epsilon, steps=1, random_start=False)`. As in the authors' code x + eta is
    not clipped to [0, 1], and an image without a gradient (none above 1e-12) has no penalty. Their
    code takes the gradient at x as a constant; here the classifier learns through both, as the
    paper's formula says. Batch normalisation sees three batches a step: perturbed, clean and noisy.

    Args:
        classifier, penalty_weight, perturb, seed: As in `Penalized`; the reference's weight on
            CIFAR-10 is 0.2 at 8/255 and 2 at 16/255.
        epsilon: Radius of eta in pixel units of [0, 1]; that of the perturbation in the reference.
    """

    SETTINGS = (*Penalized.SETTINGS, "epsilon")

    def __init__(
        self, classifier: keras.Model, penalty_weight: float, epsilon: float, **kwargs: Any
    ):
        super().__init__(classifier, penalty_weight, **kwargs)
        self.epsilon = epsilon
        self.check_settings()

    def check_settings(self) -> None:
        super().check_settings()
        arguments.radius(self.epsilon)

    def penalties(self, clean, images, labels, batch):
        logits = at_least_float32(self.classifier(images, training=True))
        eta = batch.uniform(clean, -self.epsilon, self.epsilon, stream=4)
        here, there = (self._loss_gradient(x, labels) for x in (clean, clean + eta))
        return logits, 1 - _cosine(here, there)

    def _loss_gradient(self, images: tf.Tensor, labels: tf.Tensor) -> tf.Tensor:
        """Of the loss in float64: in float32 it has no direction where the classifier is sure."""
        with tf.GradientTape() as tape:
            tape.watch(images)
            logits = tf.cast(at_least_float32(self.classifier(images, training=True)), tf.float64)
            total = tf.reduce_sum(losses.cross_entropy(labels, logits))
        return input_gradient(tape, total, images, self.classifier)


def _cosine(a: tf.Tensor, b: tf.Tensor) -> tf.Tensor:
    """Cosine [batch] between each two images, over all pixels; 1 where one of them is 0."""
    (a, some_a), (b, some_b) = map(_unit, (a, b))
    return tf.where(some_a & some_b, tf.reduce_sum(a * b, axis=[1, 2, 3]), 1.0)


def _unit(images: tf.Tensor, least: float = 1e-12) -> tuple[tf.Tensor, tf.Tensor]:
    """Images of unit L2 norm, and which ones [batch] have a pixel above `least`.

    Divided by its largest pixel first, a constant that neither the result nor its gradient depends
    on: the squares of small pixels would vanish.
    """
    largest = tf.stop_gradient(tf.reduce_max(tf.abs(images), axis=[1, 2, 3], keepdims=True))
    scaled = images / tf.maximum(largest, least)
    return tf.math.l2_normalize(scaled, axis=[1, 2, 3]), largest[:, 0, 0, 0] > least
