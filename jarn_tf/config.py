"""Every setting of a run, the values it may take, and the presets. Standard library only.

Sources of values: "paper" is Chan et al., ICLR 2020, by section; "authors" is their released
CIFAR-10 code; "ours" was chosen on a validation split of the training set (README, results).
"""

from __future__ import annotations

import dataclasses
import math
from typing import Any

DATASETS = ("digits", "mnist", "svhn", "cifar10")
PERTURBATIONS = ("none", "uniform_noise", "fgsm", "pgd", "pgd_kl")
REGULARIZERS = ("none", "jarn", "double_backprop", "l1_gradient", "frobenius", "trades")
#: Name of a defense to its perturbation of the training images and its regulariser.
PAIRS = {
    "standard": ("none", "none"),
    "uniform_noise": ("uniform_noise", "none"),
    "fgsm_at": ("fgsm", "none"),
    "pgd_at": ("pgd", "none"),
    "double_backprop": ("none", "double_backprop"),
    "jarn": ("uniform_noise", "jarn"),
    "jarn_at": ("fgsm", "jarn"),
    "trades": ("pgd_kl", "trades"),  # beyond the paper
}
DEFENSES = tuple(PAIRS)
PRESETS = ("recommended", "paper", "authors")
STRATEGIES = ("mirrored", "multi_worker", "none")
NETWORKS = ("mnist_cnn", "wide_resnet")
ACTIVATIONS = ("relu", "leaky_relu", "gelu", "softplus")
JACOBIANS = ("loss", "softmax", "logit")
ATTACK_LOSSES = ("cross_entropy", "margin")
APGD_LOSSES = ("cross_entropy", "dlr", "margin")
GAN_LOSSES = ("minimax", "non_saturating")
REAL_IMAGES = ("perturbed", "clean")


#: Fields of `Config` that leave the trained weights as they are.
WATCHING = ("robust_every", "keep_best_robust")


def one_of(name: str, value: object, choices: tuple[str, ...]) -> None:
    """Raises ValueError unless `value` is one of `choices`."""
    if value not in choices:
        raise ValueError(f"{name} must be one of {', '.join(choices)}. Received: {value!r}.")


def whole(name: str, value: int, least: int = 1) -> None:
    """Raises ValueError unless `value` is a whole number of at least `least`."""
    if not isinstance(value, int) or value < least:
        raise ValueError(f"{name} must be a whole number of at least {least}. Received: {value!r}.")


def not_negative(name: str, value: float) -> None:
    """Raises ValueError unless `value` is a finite number of at least 0."""
    if not 0 <= value < math.inf:
        raise ValueError(f"{name} must be a finite number of at least 0. Received: {value!r}.")


def positive(name: str, value: float) -> None:
    """Raises ValueError unless `value` is a finite number above 0."""
    if not 0 < value < math.inf:
        raise ValueError(f"{name} must be a finite number above 0. Received: {value!r}.")


def fraction(name: str, value: float, hint: str = "") -> None:
    """Raises ValueError unless `value` is a number in [0, 1]."""
    if not 0 <= value <= 1:  # NaN too
        raise ValueError(f"{name} must be a number in [0, 1]. Received: {value!r}.{hint}")


def radius(epsilon: float) -> None:
    """Raises ValueError unless `epsilon` is a number in [0, 1], the range of pixels."""
    hint = f" Pixels are in [0, 1]: did you mean {epsilon:g}/255?" if 1 < epsilon <= 255 else ""
    fraction("epsilon", epsilon, hint)


@dataclasses.dataclass(frozen=True)
class Optimizer:
    """An optimizer: its Keras name and its rate.

    Attributes:
        name: `"adam"` or `"sgd"`.
        learning_rate: Rate at the first step.
        momentum: Momentum of SGD.
    """

    name: str
    learning_rate: float
    momentum: float = 0.0

    def __post_init__(self):
        one_of("optimizer", self.name, ("adam", "sgd"))
        positive("learning_rate", self.learning_rate)


@dataclasses.dataclass(frozen=True)
class Config:
    """A training run, resolved: two runs of equal configs have the same result.

    Attributes:
        dataset: One of `DATASETS`.
        defense: One of `DEFENSES`, the name that perturbation and regulariser came from.
        preset: The preset that the values came from.
        perturbation: One of `PERTURBATIONS`, of the training images.
        regularizer: One of `REGULARIZERS`.
        epochs: Passes over the training images.
        batch_size: Images a step, over all replicas.
        epsilon: Radius of the attacks, and of the perturbation unless told, in pixel units of
            [0, 1].
        classifier_optimizer: Rate alpha of Algorithm 1.
        classifier_decay: Pairs (fraction of the run's steps, factor): from that fraction on the
            classifier's rate is its first rate times the factor.
        adaptor_optimizer: Rate beta.
        discriminator_optimizer: Rate gamma.
        network: One of `NETWORKS`.
        activation: One of `ACTIVATIONS`, in the classifier.
        wide_resnet_units, wide_resnet_width: As in `networks.wide_resnet`.
        discriminator_filters: Channels of the discriminator's convolutions.
        seed: Seed of initial weights, order, noise and augmentation.
        train_examples, test_examples: Use the first so many; None for all.
        noise_fraction: Share of each batch that gets the noise of `"uniform_noise"`.
        training_epsilon: Radius of the perturbation; None for `epsilon`.
        attack_steps: Steps of `"pgd"` and `"pgd_kl"`.
        attack_step_size: Step of the training attack; None for that of `AdversarialExamples`.
        attack_random_start: Whether `"fgsm"` starts at a random point; the others always do.
        epsilon_warmup_fraction: Share of the run's steps over which the training attack's radius
            grows from 0.
        penalty_weight: Weight of every regulariser but JARN.
        adversarial_weight, discriminator_interval, jacobian_of, standardize, gan_loss,
            real_images: As in `jarn_tf.JARN`.
        jarn_start_fraction: Share of the run's steps before the adversarial phase.
        pixel_scale: Factor on the pixels inside `mnist_cnn`.
        weight_decay: L2 coefficient of all networks' kernels.
        adaptor_trainable: False keeps J' = tanh(J).
        discriminator_batch_norm: Batch normalisation in the discriminator.
        augment: Random shifts of up to 4 pixels and mirror images (Madry et al., authors).
        strategy: One of `STRATEGIES`.
        replicas: Logical CPUs to mirror over where there is no GPU.
        data_dir: TFDS folder; None for `TFDS_DATA_DIR`, else TFDS's default.
        robust_every: Epochs between two evaluations of the robust accuracy during training.
        keep_best_robust: Whether to keep the classifier of the epoch that is best at it.
    """

    dataset: str
    defense: str
    preset: str
    perturbation: str
    regularizer: str
    epochs: int
    batch_size: int
    epsilon: float
    classifier_optimizer: Optimizer
    adaptor_optimizer: Optimizer
    discriminator_optimizer: Optimizer
    network: str
    activation: str
    discriminator_filters: tuple[int, ...]
    adversarial_weight: float
    discriminator_interval: int
    seed: int = 0
    train_examples: int | None = None
    test_examples: int | None = None
    classifier_decay: tuple[tuple[float, float], ...] = ()
    wide_resnet_units: int = 5
    wide_resnet_width: int = 10
    noise_fraction: float = 1.0
    training_epsilon: float | None = None
    attack_steps: int = 7
    attack_step_size: float | None = None
    attack_random_start: bool = False
    epsilon_warmup_fraction: float = 0.0
    penalty_weight: float = 1.0
    jarn_start_fraction: float = 0.75  # Section 3, "the last few epoch (25%)"
    jacobian_of: str = "loss"
    standardize: bool = False
    gan_loss: str = "minimax"
    real_images: str = "perturbed"
    pixel_scale: float = 1.0
    weight_decay: float = 0.0
    adaptor_trainable: bool = True
    discriminator_batch_norm: bool = False
    augment: bool = False
    strategy: str = "mirrored"
    replicas: int = 1
    data_dir: str | None = None
    robust_every: int = 1
    keep_best_robust: bool = False

    def __post_init__(self):
        one_of("dataset", self.dataset, DATASETS)
        one_of("defense", self.defense, DEFENSES)
        one_of("preset", self.preset, PRESETS)
        one_of("perturbation", self.perturbation, PERTURBATIONS)
        one_of("regularizer", self.regularizer, REGULARIZERS)
        one_of("activation", self.activation, ACTIVATIONS)
        one_of("strategy", self.strategy, STRATEGIES)
        one_of("network", self.network, NETWORKS)
        one_of("jacobian_of", self.jacobian_of, JACOBIANS)
        one_of("gan_loss", self.gan_loss, GAN_LOSSES)
        one_of("real_images", self.real_images, REAL_IMAGES)
        for name in (
            "epochs", "batch_size", "discriminator_interval", "replicas", "attack_steps",
            "wide_resnet_units", "wide_resnet_width", "robust_every",
        ):  # fmt: skip
            whole(name, getattr(self, name))
        for name in ("train_examples", "test_examples"):
            if getattr(self, name) is not None:
                whole(name, getattr(self, name))
        whole("seed", self.seed, least=0)
        if self.seed >= 2**32 - 1:  # NumPy's limit; Table 5 needs the next seed too
            raise ValueError(f"seed must be below {2**32 - 1}. Received: {self.seed}.")
        if self.regularizer == "trades" and self.perturbation == "none":
            raise ValueError(
                "regularizer=trades compares clean with perturbed images and needs a perturbation. "
                "Received: perturbation=none. Use pgd_kl."
            )
        if self.keep_best_robust and self.robust_every > self.epochs:
            raise ValueError(
                "keep_best_robust needs an evaluation during training. Received: "
                f"robust_every={self.robust_every}, epochs={self.epochs}."
            )
        not_negative("weight_decay", self.weight_decay)
        not_negative("adversarial_weight", self.adversarial_weight)
        not_negative("penalty_weight", self.penalty_weight)
        if self.attack_step_size is not None:
            positive("attack_step_size", self.attack_step_size)
        radius(self.epsilon)
        if self.training_epsilon is not None:
            radius(self.training_epsilon)
        fraction("noise_fraction", self.noise_fraction)
        fraction("jarn_start_fraction", self.jarn_start_fraction)
        fraction("epsilon_warmup_fraction", self.epsilon_warmup_fraction)

    @property
    def pair(self) -> str:
        """The defense's name, or of another pair `PERTURBATION+REGULARIZER`."""
        if (self.perturbation, self.regularizer) == PAIRS[self.defense]:
            return self.defense
        return f"{self.perturbation}+{self.regularizer}"

    def as_dict(self) -> dict[str, Any]:
        """Every setting under one name each, nested ones joined by a dot; JSON values."""
        return _flat(dataclasses.asdict(self))


def defaults() -> dict[str, Any]:
    """The settings of `Config` that need not be told, as `as_dict` has them."""
    return {
        field.name: _listed(field.default)
        for field in dataclasses.fields(Config)
        if field.default is not dataclasses.MISSING
    }


def _flat(values: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for name, value in values.items():
        if isinstance(value, dict):
            flat |= _flat(value, f"{prefix}{name}.")
        else:
            flat[prefix + name] = _listed(value)
    return flat


def _listed(value: Any) -> Any:
    return [_listed(v) for v in value] if isinstance(value, tuple) else value


_ADAM = Optimizer("adam", 1e-3)

# What the paper's text says. It gives no optimizer, rate, batch size or number of epochs for
# MNIST; those are ours. For SVHN and CIFAR-10 it points to Madry et al.: batch 128, SGD 0.1 with
# momentum 0.9, divided by 10 at 40,000 and 60,000 of 80,000 steps, weight decay 2e-4.
_PAPER_MNIST = dict(
    epochs=12,  # ours
    batch_size=128,  # ours
    epsilon=0.3,  # Section 4.1
    classifier_optimizer=_ADAM,  # ours
    adaptor_optimizer=_ADAM,  # ours
    discriminator_optimizer=_ADAM,  # ours
    network="mnist_cnn",  # Section 4.1
    activation="relu",  # ours
    pixel_scale=255.0,  # ours: the range of the authors' code
    discriminator_filters=(64, 128),  # Section 4.1
    adversarial_weight=1.0,  # Section 4.1
    discriminator_interval=10,  # Section 4.1
)
_PAPER_SVHN = dict(
    epochs=140,  # 80,000 steps of 128, Madry et al.
    batch_size=128,  # Madry et al.
    epsilon=8 / 255,  # Section 4.2
    classifier_optimizer=Optimizer("sgd", 0.1, momentum=0.9),  # Madry et al.
    classifier_decay=((0.5, 0.1), (0.75, 0.01)),  # Madry et al.
    adaptor_optimizer=Optimizer("sgd", 1e-3, momentum=0.9),  # as the classifier's last rate; ours
    discriminator_optimizer=Optimizer("sgd", 1e-3, momentum=0.9),  # likewise
    network="wide_resnet",  # Section 4.2
    activation="leaky_relu",  # Madry et al.
    weight_decay=2e-4,  # Madry et al.
    augment=True,  # Madry et al.
    discriminator_filters=(16, 32, 64, 128, 256),  # Section 4.2
    adversarial_weight=5.0,  # Section 4.2
    discriminator_interval=20,  # Section 4.2
)
_PAPER_CIFAR10 = _PAPER_SVHN | dict(
    epochs=205,  # 80,000 steps of 128, Madry et al.
    discriminator_filters=(32, 64, 128, 256, 512),  # Section 4.3
    adversarial_weight=1.0,  # Section 4.3
)
_PAPER = {
    "digits": _PAPER_MNIST,  # not in the paper
    "mnist": _PAPER_MNIST,
    "svhn": _PAPER_SVHN,
    "cifar10": _PAPER_CIFAR10,
}

# What perturbations and regularisers add. The paper says no more of the baselines than their
# names, the 7 steps of PGD-AT7 and the one of FGSM-AT1.
_BY_REGULARIZER: dict[str, dict[str, Any]] = {
    "double_backprop": dict(penalty_weight=2.5),  # ours
    "l1_gradient": dict(penalty_weight=0.1),  # ours, not measured
    "frobenius": dict(penalty_weight=0.005),  # Hoffman et al., 2019: 0.01 times half of the norm
    "trades": dict(penalty_weight=6.0),  # Zhang et al., 2019, on CIFAR-10
}
_BY_PERTURBATION: dict[str, dict[str, Any]] = {
    "pgd_kl": dict(attack_steps=10),  # Zhang et al., 2019, on CIFAR-10
}
# On MNIST at 0.3 adversarial training from scratch can end in a constant classifier without a
# warm-up, and with pixels in 0..255 inside the network it trains worse.
_WARMUP = dict(epsilon_warmup_fraction=0.3, pixel_scale=1.0)  # ours; Madry et al.: [0, 1]

# What the authors' released CIFAR-10 code does and the paper does not say, on the paper's values.
# Their Wide-ResNet standardises its input; `mnist_cnn` gets their pixel range instead.
_AUTHORS = dict(
    batch_size=64,
    jacobian_of="softmax",
    standardize=True,
    discriminator_batch_norm=True,
    jarn_start_fraction=0.875,  # 140,000 of 160,000 steps
    adaptor_optimizer=Optimizer("sgd", 1e-3, momentum=0.9),  # their rate in that phase
    discriminator_optimizer=Optimizer("sgd", 1e-3, momentum=0.9),  # likewise
)

# What measures best. Chosen on MNIST's validation split; see the README for what it reaches.
_RECOMMENDED = dict(
    epochs=12,
    batch_size=128,
    classifier_optimizer=_ADAM,
    adversarial_weight=0.05,
    discriminator_interval=2,
    discriminator_filters=(32, 64),
    discriminator_optimizer=Optimizer("adam", 5e-4),
    adaptor_trainable=False,
    jacobian_of="logit",
    gan_loss="non_saturating",
    real_images="clean",
    noise_fraction=0.5,
    jarn_start_fraction=0.25,
    pixel_scale=1.0,
)
# Adversarial training on MNIST at 0.3, chosen likewise, by the worst of PGD and Square. Trained at
# 0.3 a single step overfits catastrophically; at 0.4 one step is weaker than three.
_RECOMMENDED_ADVERSARIAL = dict(
    epochs=24,
    training_epsilon=0.4,
    classifier_optimizer=Optimizer("adam", 2e-3),
    classifier_decay=tuple((step / 20, (20 - step) / 14) for step in range(7, 20)),  # linear
)
_RECOMMENDED_FGSM = dict(epochs=48)  # as long as 24 with three steps
_RECOMMENDED_PGD = dict(attack_steps=3, attack_step_size=0.8 / 3)
_RECOMMENDED_JARN_AT = dict(
    adversarial_weight=0.005,
    discriminator_interval=4,
    discriminator_filters=(16, 32),
    jarn_start_fraction=0.75,
)
# Not measured: MNIST's options of JARN, the paper's networks and schedule.
_RECOMMENDED_WIDE_RESNET = {
    name: value
    for name, value in _RECOMMENDED.items()
    if name not in ("epochs", "classifier_optimizer", "discriminator_filters", "pixel_scale")
}
_CHANGES: dict[str, dict[str, dict[str, Any]]] = {
    "paper": {},
    "authors": {
        "digits": _AUTHORS | dict(epochs=16),  # ours
        "mnist": _AUTHORS | dict(epochs=16),  # ours
        "svhn": _AUTHORS,
        "cifar10": _AUTHORS,
    },
    "recommended": {
        "digits": _RECOMMENDED | dict(epochs=100, batch_size=64, adversarial_weight=0.1),
        "mnist": _RECOMMENDED,
        "svhn": _RECOMMENDED_WIDE_RESNET,
        "cifar10": _RECOMMENDED_WIDE_RESNET,
    },
}


def preset(
    dataset: str = "digits",
    defense: str = "jarn",
    name: str = "recommended",
    **changes: Any,
) -> Config:
    """The preset's configuration for a dataset and a defense.

    Args:
        dataset: One of `DATASETS`.
        defense: One of `DEFENSES`.
        name: `"paper"`: what the paper's text says. `"authors"`: what their released code does
            beyond it. `"recommended"`: what measures best.
        **changes: Fields of `Config` to set otherwise.

    Raises:
        ValueError: An unknown name or a value out of range.
    """
    one_of("dataset", dataset, DATASETS)
    one_of("defense", defense, DEFENSES)
    one_of("preset", name, PRESETS)
    perturbation, regularizer = PAIRS[defense]
    recommended_on_mnist = dataset == "mnist" and name == "recommended"
    if recommended_on_mnist and defense == "jarn_at":
        perturbation = "pgd"  # beats the paper's single step at equal cost
    pair = {"perturbation": perturbation, "regularizer": regularizer}
    pair |= {key: changes[key] for key in pair if key in changes}
    values = _PAPER[dataset] | _CHANGES[name].get(dataset, {}) | pair
    values |= _BY_PERTURBATION.get(pair["perturbation"], {})
    values |= _BY_REGULARIZER.get(pair["regularizer"], {})
    adversarial = pair["perturbation"] in ("fgsm", "pgd", "pgd_kl")
    if values["network"] == "mnist_cnn" and adversarial:
        values |= _WARMUP
    if recommended_on_mnist and pair["perturbation"] in ("fgsm", "pgd"):
        values |= _RECOMMENDED_ADVERSARIAL
        values |= _RECOMMENDED_PGD if pair["perturbation"] == "pgd" else _RECOMMENDED_FGSM
        values |= _RECOMMENDED_JARN_AT if pair["regularizer"] == "jarn" else {}
    if name == "recommended" and pair["perturbation"] == "fgsm":
        # A single step from the image itself overfits catastrophically (Wong et al., 2020).
        values["attack_random_start"] = True
    return Config(**{**values, **changes, "dataset": dataset, "defense": defense, "preset": name})
