"""The base of every defense: a Keras classifier trained on perturbed images."""

from __future__ import annotations

import os
import textwrap
import warnings
from collections.abc import Callable, Sequence
from typing import Any

import keras
import tensorflow as tf

from jarn_tf import arguments, checks, losses
from jarn_tf.labels import flat
from jarn_tf.precision import (
    LossScaleOptimizer,
    at_least_float32,
    in_float16,
    loss_scale,
    scales_losses,
)
from jarn_tf.randomness import BatchSlice
from jarn_tf.steps import ModelOfSteps

Perturbation = Callable[[keras.Model, tf.Tensor, tf.Tensor, BatchSlice], tf.Tensor]


@keras.saving.register_keras_serializable("jarn_tf")
class Defense(ModelOfSteps):
    """Trains `classifier` on perturbed images with the cross-entropy (Eq. 1, Eq. 3).

    With no perturbation it is standard training, with `attacks.UniformNoise` the paper's Uniform
    Noise baseline. Subclasses add a regulariser. Everything else is as for any Keras classifier:
    `call` returns the classifier's logits, so `evaluate`, `predict`, metrics and callbacks work.
    Logits, Jacobian and losses are float32, whatever the networks compute in.

    Args:
        classifier: Built Keras model from float images [batch, height, width, channels] in
            [0, 1] to logits [batch, classes].
        perturb: What is done to a training batch, a function of (classifier, images, labels,
            `BatchSlice`) to images; None leaves the images as they are.
        seed: Seed of the perturbation; noise is a pure function of (seed, step).

    Raises:
        ValueError: The classifier is not built, does not return [batch, classes] or computes
            neither in float32 nor under a mixed policy; in training: images that are not floating
            point or not in [0, 1], labels that do not fit, or a loss that is not finite (the step
            is named and no optimizer's update is made).
    """

    #: Names of the kinds of step, each compiled by itself.
    CLASSIFIER = "classifier"
    #: Arguments beside the networks, attributes too.
    SETTINGS: tuple[str, ...] = ("perturb", "seed")

    def __init__(
        self,
        classifier: keras.Model,
        perturb: Perturbation | None = None,
        seed: int = 0,
        **kwargs: Any,
    ):
        super().__init__(**kwargs)
        checks.classifier(classifier)
        checks.precision(classifier)
        checks.in_scope("The classifier", classifier)
        self.classifier = classifier
        self._shapes = checks.shapes(classifier)
        if None not in self.input_shape[1:]:  # a graph shows not every softmax
            noise = tf.random.stateless_uniform((2, *self.input_shape[1:]), (0, 0))
            checks.logits(classifier, noise)
        self.perturb = perturb
        self.seed = seed
        Defense.check_settings(self)
        #: Metrics of a subclass's regulariser, reported on the steps that it runs on.
        self.regularizer_metrics: list[keras.metrics.Metric] = []
        self.built = True

    def check_settings(self) -> None:
        """Raises ValueError unless every one of `SETTINGS` has a value that it may have."""
        if self.perturb is not None and not callable(self.perturb):
            raise ValueError(
                "perturb must be a function of (classifier, images, labels, batch) or None. "
                f"Received: {self.perturb!r}. For noise give attacks.UniformNoise(epsilon)."
            )
        arguments.seed(self.seed)

    def call(self, images: tf.Tensor, training: bool = False) -> tf.Tensor:
        return at_least_float32(self.classifier(images, training=training))

    @property
    def input_shape(self) -> tuple:
        """Shape of the images, (None, height, width, channels)."""
        return self._shapes[0]

    @property
    def output_shape(self) -> tuple:
        """Shape of the logits, (None, classes)."""
        return self._shapes[1]

    def compile(
        self,
        classifier_optimizer: str | keras.optimizers.Optimizer | None = None,
        metrics: Sequence | None = ("accuracy",),
        weighted_metrics: Sequence | None = None,
        run_eagerly: bool = False,
        optimizer: str | keras.optimizers.Optimizer | None = None,
        loss: str | Callable | keras.losses.Loss | None = None,
        jit_compile: bool = False,
        steps_per_execution: int = 1,
    ) -> None:
        """Configures training.

        Callbacks that set a learning rate, such as `ReduceLROnPlateau`, set the classifier's; every
        optimizer may have a schedule of its own.

        Args:
            classifier_optimizer: Optimizer of the classifier (rate alpha in the paper); Adam
                unless told. Under `mixed_float16` it is put into a
                `keras.optimizers.LossScaleOptimizer`; a step on which that finds gradients that
                are not finite moves nothing and does not count.
            metrics: As in `keras.Model.compile`, of labels and logits.
            weighted_metrics: As in `keras.Model.compile`.
            run_eagerly: Whether steps run eagerly, for debugging.
            optimizer: Another name of `classifier_optimizer`, as in `keras.Model.compile`.
            loss: L_cls: any Keras loss of labels and logits with a value for each image, such as
                `keras.losses.CategoricalCrossentropy(from_logits=True, label_smoothing=0.1)`; the
                cross-entropy of integer or one-hot labels unless told. Gradient penalties and
                JARN's J with `jacobian_of="loss"` are of this loss, each image's without its
                sample weight. Attacks on training images, `TRADES`'s divergence and
                `GradientAlignment` are of the cross-entropy.
            jit_compile: Whether XLA compiles the steps, on one device. It knows no assertions, so
                images, labels and losses are not checked then; and its random numbers are others.
            steps_per_execution: Steps between two calls of callbacks. Those of one kind run in one
                call, under a distribution strategy each in its own.

        Raises:
            ValueError: Two optimizers for the classifier, a loss of probabilities, or `jit_compile`
                on several replicas.
        """
        if classifier_optimizer is not None and optimizer is not None:
            raise ValueError(
                "optimizer is the classifier's, as classifier_optimizer is. Received both."
            )
        chosen = classifier_optimizer if optimizer is None else optimizer
        self.classifier_optimizer = self._build_optimizer(
            "adam" if chosen is None else chosen, self.classifier
        )
        if not self.classifier.trainable_variables:
            warnings.warn("The classifier has no trainable weights.", stacklevel=2)
        arguments.whole("steps_per_execution", steps_per_execution)
        replicas = self.distribute_strategy.num_replicas_in_sync
        if jit_compile and replicas > 1:
            raise ValueError(
                "jit_compile is for one device, as XLA compiles no sum over replicas. Received: "
                f"{replicas} replicas."
            )
        loss = losses.CrossEntropy() if loss is None else loss
        self.loss_of_each = losses.of_each(loss)
        super().compile(
            optimizer=self.classifier_optimizer,
            loss=loss,
            metrics=list(metrics) if isinstance(metrics, tuple) else metrics,
            weighted_metrics=weighted_metrics,
            run_eagerly=run_eagerly,
            jit_compile=jit_compile,
            steps_per_execution=steps_per_execution,
            auto_scale_loss=False,  # an optimizer scales as its network needs it
        )

    def _build_optimizer(
        self, optimizer: str | keras.optimizers.Optimizer, network: keras.Model
    ) -> keras.optimizers.Optimizer:
        """The optimizer with slots for one network's variables.

        Built here and not at the first step: restoring a checkpoint needs the slots, and under a
        strategy they must be made in its scope.
        """
        with self.distribute_strategy.scope():
            try:
                optimizer = keras.optimizers.get(optimizer)
            except KeyError:
                raise ValueError(
                    f"optimizer must be one of Keras, its name or config. Received: {optimizer}."
                ) from None
            moves_float16 = network.trainable_variables and in_float16(network)
            if moves_float16 or scales_losses(optimizer):
                optimizer = LossScaleOptimizer.around(optimizer)
            optimizer.build(network.trainable_variables)
        return optimizer

    # Training

    @property
    def step(self) -> tf.Tensor:
        """Number of training steps so far, int32, those that only accumulate gradients counted."""
        optimizer = self.classifier_optimizer
        optimizer = optimizer.inner_optimizer if scales_losses(optimizer) else optimizer
        # `iterations` counts the updates alone.
        return tf.cast(optimizer.variables[0].value, tf.int32)

    def kind_of_step(self, step: int) -> str:
        """The kind of training step number `step`, counted from 0."""
        del step
        return self.CLASSIFIER

    def train_step(self, data: Any, kind: str = CLASSIFIER) -> dict[str, tf.Tensor]:
        """One step of training on perturbed images; the classifier alone moves."""
        clean, labels, weights = self._checked_batch(data)
        batch = self._slice(clean)
        images = self._perturbed(clean, labels, batch)
        with tf.GradientTape() as tape:
            logits, penalty = self._logits_and_penalty(kind, clean, images, labels, batch)
            loss = self._classification_loss(labels, logits, weights, batch) + penalty
        theta = self.classifier.trainable_variables
        gradients = tape.gradient(loss, theta, loss_scale(self.classifier_optimizer))
        with tf.control_dependencies(self._check_finite(batch, loss)):
            self.classifier_optimizer.apply(gradients, theta)
        return self._record(images, labels, logits, weights)

    def _logits_and_penalty(
        self, kind: str, clean: tf.Tensor, images: tf.Tensor, labels: tf.Tensor, batch: BatchSlice
    ) -> tuple[tf.Tensor, tf.Tensor | float]:
        """Logits [batch, classes] that L_cls is of; this replica's share of what is added to it."""
        del kind, clean, labels, batch
        return at_least_float32(self.classifier(images, training=True)), 0.0

    def _checked_batch(self, data: Any) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor | None]:
        images, labels, weights = keras.utils.unpack_x_y_sample_weight(data)
        if labels is None:
            raise ValueError("Images need labels. Received none. Give fit(images, labels).")
        images, labels = checks.array("images", images), checks.array("labels", labels)
        images, labels = tf.convert_to_tensor(images), tf.convert_to_tensor(labels)
        images = checks.fitting(images, self.input_shape)
        if tf.distribute.get_replica_context().num_replicas_in_sync == 1:
            checks.some(images)  # of several replicas one may get none
        labels = flat(labels)
        classes = self.output_shape[-1]
        checks.static(labels, classes)
        if weights is not None:
            weights = tf.reshape(weights, [-1])  # [batch, 1], too, as Keras accepts it
        # In a graph nothing waits for a check that it is not told to wait for.
        checked = [] if self.jit_compile else checks.values(images, labels, classes)
        with tf.control_dependencies(checked):
            images = tf.clip_by_value(tf.cast(tf.identity(images), tf.float32), 0.0, 1.0)
        return images, labels, weights

    def _slice(self, images: tf.Tensor) -> BatchSlice:
        return BatchSlice.of(images, self.seed, self.step)

    def _perturbed(self, images: tf.Tensor, labels: tf.Tensor, batch: BatchSlice) -> tf.Tensor:
        if self.perturb is None:
            return images
        return tf.stop_gradient(self.perturb(self.classifier, images, labels, batch))

    def _classification_loss(
        self, labels: tf.Tensor, logits: tf.Tensor, weights: Any, batch: BatchSlice
    ) -> tf.Tensor:
        """This replica's share of L_cls and of the classifier's own regularisation losses."""
        losses_of_images = self._weighted(labels, logits, weights)
        return batch.mean(losses_of_images) + self._regularization(self.classifier)

    def _weighted(self, labels: tf.Tensor, logits: tf.Tensor, weights: Any) -> tf.Tensor:
        """L_cls per image times its sample weight."""
        per_image = self.loss_of_each(labels, logits)
        return per_image if weights is None else per_image * tf.cast(weights, per_image.dtype)

    def _regularization(self, network: keras.Model) -> tf.Tensor:
        """This replica's share of the losses that a network's layers add (weight decay)."""
        replicas = tf.distribute.get_replica_context().num_replicas_in_sync
        return tf.add_n([*network.losses, tf.constant(0.0)]) / replicas

    def _check_finite(self, batch: BatchSlice, loss: tf.Tensor) -> list[tf.Operation]:
        """The check that updates have to wait for; it fails on all replicas or on none."""
        if self.jit_compile:
            return []
        loss = batch.over_replicas(loss)
        return checks.require(
            tf.math.is_finite(loss),
            "the loss or its gradient is not finite (", loss, ") at step ", batch.step,
            ". Training stopped before "
            "the update. Lower the learning rate or the weight of the regulariser.",
        )  # fmt: skip

    def _record(
        self, images: tf.Tensor, labels: tf.Tensor, logits: tf.Tensor, weights: Any
    ) -> dict[str, tf.Tensor]:
        """Updates loss and metrics of the classifier, and returns their values by name."""
        for metric in self.metrics:
            if metric.name == "loss":
                # Averaged over the number of images, not over the weights, as Keras does it.
                metric.update_state(self._weighted(labels, logits, weights))
        try:
            results = self.compute_metrics(images, labels, logits, sample_weight=weights)
        except (ValueError, tf.errors.InvalidArgumentError) as error:
            what = textwrap.shorten(str(error), 100)
            raise ValueError(
                f"metrics do not take these labels ({what}). Received labels "
                f"{tuple(labels.shape)}. Give metrics that do; where they were made for labels of "
                "another kind, compile again."
            ) from None
        for metric in self.regularizer_metrics:
            del results[metric.name]
        return results

    def _regularizer_results(self) -> dict[str, tf.Tensor]:
        """Values of the regulariser's metrics by name; NaN where it has not run in this epoch."""
        return {metric.name: metric.result() for metric in self.regularizer_metrics}

    def test_step(self, data: Any) -> dict[str, tf.Tensor]:
        images, labels, weights = self._checked_batch(data)
        return self._record(images, labels, self(images, training=False), weights)

    def predict_step(self, data: Any) -> tf.Tensor:
        images, *_ = keras.utils.unpack_x_y_sample_weight(data)
        images = checks.fitting(checks.array("images", images), self.input_shape)
        return self(images, training=False)

    # Saving

    def export(self, filepath: str | os.PathLike, *args: Any, **kwargs: Any) -> None:
        """As `keras.Model.export`: the classifier alone, from images to logits."""
        self.classifier.export(filepath, *args, **kwargs)

    def get_config(self) -> dict[str, Any]:
        serialize = keras.saving.serialize_keras_object
        return {"name": self.name, "classifier": serialize(self.classifier)} | {
            name: serialize(getattr(self, name)) for name in self.SETTINGS
        }

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Defense:
        return cls(**{k: keras.saving.deserialize_keras_object(v) for k, v in config.items()})

    #: Arguments of `compile` that are optimizers.
    OPTIMIZERS: tuple[str, ...] = ("classifier_optimizer",)

    def get_compile_config(self) -> dict[str, Any]:
        if not self.compiled:
            return {}
        serialize = keras.saving.serialize_keras_object
        config = super().get_compile_config()
        kept = {name: config[name] for name in ("metrics", "weighted_metrics", "loss")}
        return kept | {name: serialize(getattr(self, name)) for name in self.OPTIMIZERS}

    def compile_from_config(self, config: dict[str, Any]) -> None:
        self.compile(**{k: keras.saving.deserialize_keras_object(v) for k, v in config.items()})
