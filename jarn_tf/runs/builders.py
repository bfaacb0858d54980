"""From a configuration to a distribution strategy and a compiled model."""

from __future__ import annotations

from typing import Any

import keras
import tensorflow as tf

from jarn_tf import attacks, baselines, networks, workers
from jarn_tf.defense import Defense, Perturbation
from jarn_tf.jarn import JARN
from jarn_tf.runs.config import Config
from jarn_tf.runs.saved import classifier_for_dataset, load_classifier
from jarn_tf.runs.settings import Optimizer


def make_strategy(name: str, replicas: int = 1) -> tf.distribute.Strategy:
    """The `tf.distribute` strategy of a run.

    Args:
        name: `"mirrored"`: all GPUs, or `replicas` logical CPUs where there is none.
            `"multi_worker"`: the workers of the variable `TF_CONFIG`. `"none"`: one device.
        replicas: Logical CPUs.

    Raises:
        ValueError: TensorFlow already runs with other logical CPUs, or no workers in `TF_CONFIG`.
    """
    if name == "none":
        return tf.distribute.get_strategy()
    if name == "multi_worker":
        return workers.connect()
    if tf.config.list_physical_devices("GPU"):
        return tf.distribute.MirroredStrategy()
    if replicas > 1:
        cpu = tf.config.list_physical_devices("CPU")[0]
        logical = [tf.config.LogicalDeviceConfiguration()] * replicas
        if tf.config.get_logical_device_configuration(cpu) != logical:
            try:
                tf.config.set_logical_device_configuration(cpu, logical)
            except RuntimeError:
                raise ValueError(
                    "Replicas on logical CPUs must be made before TensorFlow is first used. "
                    f"Received: replicas={replicas}. Start a new process."
                ) from None
    return tf.distribute.MirroredStrategy([f"CPU:{i}" for i in range(replicas)])


def build_model(
    config: Config, image_shape: tuple[int, int, int], classes: int, total_steps: int
) -> Defense:
    """The compiled model of a run; call it in the strategy's scope.

    Raises:
        ValueError: `config.init_from` is no classifier of these images.
    """
    classifier = _classifier(config, image_shape, classes)
    common = {"perturb": _perturbation(config, total_steps), "seed": config.seed}
    optimizers = [_optimizer(config.classifier_optimizer, _rate(config, total_steps))]
    if config.regularizer == "none":
        model = Defense(classifier, **common)
    elif config.regularizer == "jarn":
        model = _jarn(config, classifier, image_shape, total_steps, **common)
        of_others = config.adaptor_optimizer, config.discriminator_optimizer
        optimizers += [_optimizer(settings, settings.learning_rate) for settings in of_others]
    else:
        model = _penalized(config, classifier, **common)
    model.compile(*optimizers, jit_compile=config.jit_compile)
    return model


def _penalized(config: Config, classifier: keras.Model, **common: Any) -> baselines.Penalized:
    lazy = {"regularization_interval": config.regularization_interval}
    penalized, options = {
        "double_backprop": (baselines.InputGradientPenalty, lazy),
        "l1_gradient": (baselines.InputGradientPenalty, lazy | {"norm": "l1"}),
        "frobenius": (baselines.LogitJacobianPenalty, lazy),
        "trades": (baselines.TRADES, {}),
        "gradient_alignment": (baselines.GradientAlignment, {"epsilon": config.training_epsilon}),
    }[config.regularizer]
    return penalized(classifier, config.penalty_weight, **options, **common)


def _jarn(
    config: Config,
    classifier: keras.Model,
    image_shape: tuple[int, int, int],
    total_steps: int,
    **common: Any,
) -> JARN:
    return JARN(
        classifier,
        networks.adaptor(
            image_shape, config.adaptor_trainable, config.weight_decay, config.adaptor_gain
        ),
        networks.discriminator(
            image_shape,
            config.discriminator_filters,
            config.discriminator_batch_norm,
            config.weight_decay,
            config.discriminator_patches,
        ),
        adversarial_weight=config.adversarial_weight,
        discriminator_interval=config.discriminator_interval,
        start_step=round(config.jarn_start_fraction * total_steps),
        jacobian_of=config.jacobian_of,
        standardize=config.standardize,
        gan_loss=config.gan_loss,
        real_images=config.real_images,
        regularization_interval=config.regularization_interval,
        jacobian_penalty=config.jacobian_penalty,
        discriminator_penalty=config.discriminator_penalty,
        discriminator_noise=config.discriminator_noise,
        **common,
    )


def _classifier(config: Config, image_shape: tuple[int, int, int], classes: int) -> keras.Model:
    if config.init_from is not None:
        return classifier_for_dataset(
            load_classifier(config.init_from),
            config.dataset,
            image_shape,
            classes,
            config.pixel_scale,
            config.probabilities,
        )
    if config.network == "mnist_cnn":
        return networks.mnist_cnn(
            image_shape, classes, config.pixel_scale, config.weight_decay, config.activation
        )
    if config.network == "compact_cnn":
        return networks.compact_cnn(
            image_shape, classes, config.weight_decay, config.activation, config.normalization
        )
    return networks.wide_resnet(
        image_shape,
        classes,
        config.wide_resnet_units,
        config.wide_resnet_width,
        config.weight_decay,
        config.activation,
    )


def _perturbation(config: Config, total_steps: int) -> Perturbation | None:
    if config.perturbation == "none":
        return None
    if config.perturbation == "uniform_noise":
        return attacks.UniformNoise(config.training_epsilon, config.noise_fraction)
    warmup_steps = round(config.epsilon_warmup_fraction * total_steps)
    if config.perturbation == "n_fgsm":
        return attacks.NFGSM(
            config.training_epsilon, step_size=config.attack_step_size, warmup_steps=warmup_steps
        )
    one_step = config.perturbation == "fgsm"
    return attacks.AdversarialExamples(
        config.training_epsilon,
        steps=1 if one_step else config.attack_steps,
        step_size=config.attack_step_size,
        random_start=config.attack_random_start or not one_step,
        warmup_steps=warmup_steps,
        targets="predictions" if config.perturbation == "pgd_kl" else "labels",
        norm=config.training_norm,
    )


def _rate(
    config: Config, total_steps: int
) -> float | keras.optimizers.schedules.LearningRateSchedule:
    rate = config.classifier_optimizer.learning_rate
    if not config.classifier_decay:
        return rate
    factors = [1.0, *(factor for _, factor in config.classifier_decay)]
    return keras.optimizers.schedules.PiecewiseConstantDecay(
        [round(fraction * total_steps) for fraction, _ in config.classifier_decay],
        [rate * factor for factor in factors],
    )


def _optimizer(settings: Optimizer, rate) -> keras.optimizers.Optimizer:
    if settings.name == "adam":
        return keras.optimizers.Adam(rate)
    return keras.optimizers.SGD(rate, momentum=settings.momentum)
