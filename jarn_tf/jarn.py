"""Algorithm 1: Jacobian Adversarially Regularized Networks (Chan et al., ICLR 2020)."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from typing import Any

import keras
import tensorflow as tf

from jarn_tf import arguments, checks, losses, networks
from jarn_tf.defense import Defense, Perturbation
from jarn_tf.jacobian import logits_and_jacobian
from jarn_tf.metrics import SeldomMean
from jarn_tf.precision import (
    at_least_float32,
    input_gradient,
    loss_scale,
    scales_losses,
    with_inner,
)
from jarn_tf.randomness import BatchSlice
from jarn_tf.real_images import real_images as shown_as_real


@keras.saving.register_keras_serializable("jarn_tf")
class JARN(Defense):
    """Trains a classifier whose adapted Jacobians fool a discriminator into taking them for images.

        x <- x + noise                                          line 4
        L_cls = cross-entropy of f_cls(x)                       line 5, Eq. 5
        J     = gradient of L_cls with respect to x             line 6, Eq. 6
        J'    = f_apt(J)                                        line 7, Eq. 7
        L_adv = log f_disc(x) + log(1 - f_disc(J'))             line 8, Eq. 9
        classifier and adaptor descend, discriminator ascends   lines 9 to 11, Eq. 10 to 12

    Example:
        model = JARN(classifier, perturb=attacks.UniformNoise(0.3))
        model.compile("adam")
        model.fit(images, labels, epochs=5)

    The one trap: a discriminator with batch normalisation has to see real and adapted images in
    one batch, else it tells the two apart by their statistics. It then runs on both at every step.

    Args:
        classifier: f_cls, built, from images in [0, 1] to logits [batch, classes].
        adaptor: f_apt, built, from Jacobians to images of the same shape; `networks.adaptor` of
            the image shape unless told.
        discriminator: f_disc, built, from images to a logit [batch, 1]; f_disc = sigmoid(logit);
            `networks.discriminator` of the image shape unless told.
        adversarial_weight: lambda_adv of Eq. 10, at least 0.
        discriminator_interval: The discriminator learns at steps 0, k, 2k, ... of those of the
            adversarial phase on which L_adv counts (Section 4.1: every 10 iterations on MNIST, 4.2
            and 4.3: every 20).
        start_step: First step of the adversarial phase; before it the classifier alone trains, at
            the cost of plain training (Section 3: JARN in the last 25 % of the epochs suffices).
        perturb: Perturbation of the training images (line 4); None for none.
        seed: Seed of the perturbation.
        jacobian_of: What J is the gradient of. "loss" is Eq. 6. "softmax", the label's
            probability, is what the authors' released code differentiates. "logit", the label's
            logit, does not vanish where the classifier is sure: it is what makes a gain that
            stronger attacks confirm (docs/results_mnist.md). "margin" is that logit minus the
            largest other one.
        standardize: Shift to zero mean and scale to unit L2 norm J before the adaptor, and
            everything before the discriminator. Not in the paper; the authors' released code does
            it. It masks gradients: where J is tiny the division blows the logits up.
        gan_loss: "minimax" is Eq. 9. "non_saturating": classifier and adaptor descend on
            -log f_disc(J') instead, whose gradient survives a discriminator that is ahead.
        real_images: What the discriminator is shown as real: "perturbed" (Algorithm 1) or "clean"
            images, so that J' need not imitate the noise; the others: `real_images.real_images`.
        regularization_interval: n: L_adv counts on every n-th step of the phase alone, n times as
            much for the classifier; adaptor and discriminator learn on no other. The steps between
            cost as much as plain training. StyleGAN2's lazy regularisation (Karras et al., 2020),
            not in the paper.
        jacobian_penalty: Weight of |J|^2, the squared L2 norm, which is added to the classifier's
            loss wherever L_adv is: with J of the loss it is double backpropagation. Not in the
            paper.
        discriminator_penalty: Weight of |gradient of the discriminator's logit at real images|^2,
            before their `discriminator_noise`, subtracted from what it maximises: R1 (Mescheder et
            al., 2018, whose weight is half of their gamma), which keeps it from winning the game.
            Not in the paper.
        discriminator_noise: Radius of the uniform noise on what the discriminator sees, real and
            adapted alike (Arjovsky and Bottou, 2017). Not in the paper.

    Raises:
        ValueError: Networks that do not fit each other, options out of range; in training as
            `Defense`.

    Reference: https://openreview.net/forum?id=Hke0V1rKPS
    """

    ADVERSARIAL = "adversarial"
    ADVERSARIAL_AND_DISCRIMINATOR = "adversarial and discriminator"
    OPTIMIZERS = ("classifier_optimizer", "adaptor_optimizer", "discriminator_optimizer")
    SETTINGS = (
        *Defense.SETTINGS, "adversarial_weight", "discriminator_interval", "start_step",
        "jacobian_of", "standardize", "gan_loss", "real_images", "regularization_interval",
        "jacobian_penalty", "discriminator_penalty", "discriminator_noise",
    )  # fmt: skip

    def __init__(
        self,
        classifier: keras.Model,
        adaptor: keras.Model | None = None,
        discriminator: keras.Model | None = None,
        adversarial_weight: float = 1.0,
        discriminator_interval: int = 10,
        start_step: int = 0,
        perturb: Perturbation | None = None,
        seed: int = 0,
        jacobian_of: str = "loss",
        standardize: bool = False,
        gan_loss: str = "minimax",
        real_images: str = "perturbed",
        regularization_interval: int = 1,
        jacobian_penalty: float = 0.0,
        discriminator_penalty: float = 0.0,
        discriminator_noise: float = 0.0,
        **kwargs: Any,
    ):
        super().__init__(classifier, perturb=perturb, seed=seed, **kwargs)
        image_shape = self.input_shape[1:]
        if None in image_shape:
            raise ValueError(
                f"JARN needs images of one size. Received a classifier of images {image_shape}. "
                "Give jarn_tf.as_classifier(model, image_shape=(height, width, channels))."
            )
        if adaptor is None:
            adaptor = networks.adaptor(image_shape)
        if discriminator is None:
            discriminator = networks.discriminator(image_shape)
        checks.fits_images("adaptor", adaptor, image_shape, image_shape)
        checks.fits_images("discriminator", discriminator, image_shape, (1,))
        checks.in_scope("The adaptor", adaptor)
        checks.in_scope("The discriminator", discriminator)
        self.adaptor = adaptor
        self.discriminator = discriminator
        self.adversarial_weight = adversarial_weight
        self.discriminator_interval = discriminator_interval
        self.start_step = start_step
        self.jacobian_of = jacobian_of
        self.standardize = standardize
        self.gan_loss = gan_loss
        self.real_images = real_images
        self.regularization_interval = regularization_interval
        self.jacobian_penalty = jacobian_penalty
        self.discriminator_penalty = discriminator_penalty
        self.discriminator_noise = discriminator_noise
        self.check_settings()
        self._couples_images = any(
            isinstance(layer, keras.layers.BatchNormalization)
            for layer in with_inner(discriminator)
        )
        self.regularizer_metrics = [
            SeldomMean("adversarial_loss"),
            SeldomMean("discriminator_real_accuracy"),
            SeldomMean("discriminator_adapted_accuracy"),
        ]

    @classmethod
    def recommended(cls, classifier: keras.Model, **changes: Any) -> JARN:
        """JARN with the options that measure best on MNIST's validation images.

        They are those of the preset `recommended`, which also has noise on half of each batch,
        `perturb=attacks.UniformNoise(0.45, fraction=0.5)`, the phase after a quarter of the steps,
        `start_step=steps // 4`, and `keras.optimizers.Adam(0.002)` for the discriminator. On
        natural images JARN was found no better than double backpropagation
        (docs/results_cifar10.md).

        Args:
            classifier: As in `JARN`.
            **changes: Arguments of `JARN` to have otherwise.
        """
        checks.classifier(classifier)
        measured = {
            "adaptor": networks.adaptor(checks.input_shape(classifier)[1:], trainable=False),
            "adversarial_weight": 0.1,
            "discriminator_interval": 1,
            "jacobian_of": "logit",
            "gan_loss": "non_saturating",
            "real_images": "clean",
        }
        return cls(classifier, **measured | changes)

    def check_settings(self) -> None:
        super().check_settings()
        arguments.not_negative("adversarial_weight", self.adversarial_weight)
        arguments.whole("discriminator_interval", self.discriminator_interval)
        arguments.whole("start_step", self.start_step, least=0)
        arguments.one_of("jacobian_of", self.jacobian_of, arguments.JACOBIANS)
        arguments.truth("standardize", self.standardize)
        arguments.one_of("gan_loss", self.gan_loss, arguments.GAN_LOSSES)
        arguments.one_of("real_images", self.real_images, arguments.REAL_IMAGES)
        arguments.whole("regularization_interval", self.regularization_interval)
        arguments.not_negative("jacobian_penalty", self.jacobian_penalty)
        arguments.not_negative("discriminator_penalty", self.discriminator_penalty)
        arguments.not_negative("discriminator_noise", self.discriminator_noise)

    def compile(
        self,
        classifier_optimizer: str | keras.optimizers.Optimizer | None = None,
        adaptor_optimizer: str | keras.optimizers.Optimizer = "adam",
        discriminator_optimizer: str | keras.optimizers.Optimizer = "adam",
        metrics: Sequence | None = ("accuracy",),
        weighted_metrics: Sequence | None = None,
        run_eagerly: bool = False,
        optimizer: str | keras.optimizers.Optimizer | None = None,
        loss: str | Callable | keras.losses.Loss | None = None,
        **kwargs: Any,
    ) -> None:
        """Configures training; the three rates are alpha, beta and gamma of Algorithm 1.

        Args:
            classifier_optimizer, metrics, weighted_metrics, run_eagerly, optimizer, loss, **kwargs:
                As in `Defense.compile`.
            adaptor_optimizer, discriminator_optimizer: Those of the other two networks.

        Raises:
            ValueError: One optimizer object given for two networks; as `Defense.compile`.
        """
        given = (classifier_optimizer, optimizer, adaptor_optimizer, discriminator_optimizer)
        objects = [id(o) for o in given if not isinstance(o, (str, dict, type(None)))]
        if len(set(objects)) < len(objects):
            raise ValueError(
                "Each network needs an optimizer of its own. Received one object for two of "
                "classifier_optimizer, adaptor_optimizer, discriminator_optimizer."
            )
        self.adaptor_optimizer = self._build_optimizer(adaptor_optimizer, self.adaptor)
        self.discriminator_optimizer = self._build_optimizer(
            discriminator_optimizer, self.discriminator
        )
        super().compile(
            classifier_optimizer, metrics, weighted_metrics, run_eagerly, optimizer, loss, **kwargs
        )

    def kind_of_step(self, step: int) -> str:
        taken, between = divmod(step - self.start_step, self.regularization_interval)
        if step < self.start_step or between:
            return self.CLASSIFIER
        if taken % self.discriminator_interval:
            return self.ADVERSARIAL
        return self.ADVERSARIAL_AND_DISCRIMINATOR

    def train_step(self, data: Any, kind: str = ADVERSARIAL_AND_DISCRIMINATOR) -> dict:
        """One training iteration of Algorithm 1, of one of the three kinds of `kind_of_step`."""
        if kind == self.CLASSIFIER:
            return super().train_step(data) | self._regularizer_results()
        learns = kind == self.ADVERSARIAL_AND_DISCRIMINATOR
        theta = self.classifier.trainable_variables
        psi = self.adaptor.trainable_variables
        phi = self.discriminator.trainable_variables

        clean, labels, weights = self._checked_batch(data)  # line 3
        batch = self._slice(clean)
        images = self._perturbed(clean, labels, batch)  # line 4
        real = shown_as_real(self.real_images, clean, images)
        weight = self.regularization_interval * self.adversarial_weight

        with tf.GradientTape(persistent=True) as tape:
            logits, jacobian = logits_and_jacobian(
                self.classifier, images, labels, self.jacobian_of, True, self.loss_of_each
            )  # line 6
            classification_loss = self._classification_loss(labels, logits, weights, batch)  # 5
            classification_loss += self._penalty(jacobian, batch)
            adapted = self.adapt(jacobian, training=True)  # line 7
            real_logits, adapted_logits = self._discriminate(real, adapted, learns, batch)
            generator_loss = batch.mean(
                losses.generator_loss(real_logits, adapted_logits, self.gan_loss)
            )
            adaptor_decay = self._regularization(self.adaptor)
            if learns:
                pairs = losses.adversarial_loss(real_logits, adapted_logits)  # line 8
                discriminator_loss = self._regularization(self.discriminator) - batch.mean(pairs)
                discriminator_loss += self._penalty_of_slopes(real, batch)

        # What float16 needs the gradients multiplied by; 1 else.
        to_theta, to_psi, to_phi = (loss_scale(getattr(self, name)) for name in self.OPTIMIZERS)
        # L_adv reaches theta and psi through J' alone, so the discriminator is crossed once.
        toward_image = input_gradient(tape, generator_loss, adapted, self.discriminator)
        theta_gradients = tape.gradient(
            [classification_loss, adapted], theta, [to_theta, to_theta * weight * toward_image]
        )
        psi_gradients = tape.gradient(
            [adaptor_decay, adapted], psi, [to_psi, to_psi * toward_image]
        )
        phi_gradients = tape.gradient(discriminator_loss, phi, to_phi) if learns else None
        del tape

        total = classification_loss + generator_loss
        if not scales_losses(self.classifier_optimizer):
            # Second-order gradients can overflow where the losses do not.
            total += tf.linalg.global_norm(theta_gradients)
        finite = self._check_finite(batch, total + discriminator_loss if learns else total)

        with tf.control_dependencies(finite):
            self.classifier_optimizer.apply(theta_gradients, theta)  # line 9, (5a)
            self.adaptor_optimizer.apply(psi_gradients, psi)  # line 10, (5b)
            if learns:
                self.discriminator_optimizer.apply(phi_gradients, phi)  # line 11, (5c)
        if learns:
            self._record_game(pairs, real_logits, adapted_logits)
        return self._record(images, labels, logits, weights) | self._regularizer_results()

    def adapt(self, jacobian: tf.Tensor, training: bool = False) -> tf.Tensor:
        """J' = f_apt(J) (Eq. 7), of the shape of the images."""
        adapted = self.adaptor(self.standardized(jacobian), training=training)
        return at_least_float32(adapted)

    def standardized(self, images: tf.Tensor) -> tf.Tensor:
        """Images as adaptor and discriminator are given them."""
        return losses.standardize(images) if self.standardize else images

    def _discriminate(
        self, real: tf.Tensor, adapted: tf.Tensor, learns: bool, batch: BatchSlice
    ) -> tuple[tf.Tensor | None, tf.Tensor]:
        """Discriminator logits [batch] of real images and of adapted Jacobians.

        On a step on which the discriminator does not learn, the real images have no gradient to
        give and are left out (None), unless batch normalisation couples them to J'; and what the
        pass would change in the discriminator (moving averages) is thrown away.
        """
        real, adapted = self.standardized(real), self.standardized(adapted)
        if self.discriminator_noise:
            radius = self.discriminator_noise
            real += batch.uniform(real, -radius, radius, stream=5)
            adapted += batch.uniform(adapted, -radius, radius, stream=6)
        with contextlib.nullcontext() if learns else keras.StatelessScope():
            if self._couples_images:
                both = self._judge(tf.concat([real, adapted], axis=0))
                real_logits, adapted_logits = tf.split(both, 2)
                return real_logits, adapted_logits
            adapted_logits = self._judge(adapted)
            real_logits = self._judge(real) if learns else None
        return real_logits, adapted_logits

    def _judge(self, images: tf.Tensor) -> tf.Tensor:
        """The discriminator's logits [batch]."""
        return at_least_float32(self.discriminator(images, training=True)[:, 0])

    def _penalty(self, jacobian: tf.Tensor, batch: BatchSlice) -> tf.Tensor | float:
        """This replica's share of `jacobian_penalty`."""
        if not self.jacobian_penalty:
            return 0.0
        squares = tf.reduce_sum(tf.square(jacobian), axis=[1, 2, 3])
        return self.regularization_interval * self.jacobian_penalty * batch.mean(squares)

    def _penalty_of_slopes(self, real: tf.Tensor, batch: BatchSlice) -> tf.Tensor | float:
        """This replica's share of `discriminator_penalty`, at the images that are seen as real."""
        if not self.discriminator_penalty:
            return 0.0
        real = self.standardized(real)
        with keras.StatelessScope(), tf.GradientTape() as tape:
            tape.watch(real)
            total = tf.reduce_sum(self._judge(real))
        slopes = input_gradient(tape, total, real, self.discriminator)
        squares = tf.reduce_sum(tf.square(slopes), axis=[1, 2, 3])
        return self.discriminator_penalty * batch.mean(squares)

    def _record_game(self, pairs: tf.Tensor, real: tf.Tensor, adapted: tf.Tensor) -> None:
        loss, real_accuracy, adapted_accuracy = self.regularizer_metrics
        loss.update_state(pairs)
        real_accuracy.update_state(real > 0)
        adapted_accuracy.update_state(adapted <= 0)

    def get_config(self) -> dict[str, Any]:
        serialize = keras.saving.serialize_keras_object
        return super().get_config() | {
            "adaptor": serialize(self.adaptor),
            "discriminator": serialize(self.discriminator),
        }
