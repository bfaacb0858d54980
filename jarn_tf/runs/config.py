"""Every setting of a run, each declared once. Standard library only.

Flags of `launch.train`, checks, `config.json`, TensorBoard's HParams and `docs/settings.md` follow
from the declarations. The values of each dataset, preset and defense, with their sources, stand in
`presets/`.
"""

from __future__ import annotations

import dataclasses
from typing import Any

from jarn_tf import arguments
from jarn_tf.runs import settings
from jarn_tf.runs.settings import Optimizer, Setting, setting

#: Name of a defense to its perturbation of the training images and its regulariser.
PAIRS = {
    "standard": ("none", "none"),
    "uniform_noise": ("uniform_noise", "none"),
    "fgsm_at": ("fgsm", "none"),
    "pgd_at": ("pgd", "none"),
    "double_backprop": ("none", "double_backprop"),
    "jarn": ("uniform_noise", "jarn"),
    "jarn_at": ("fgsm", "jarn"),
    "jarn_pgd_at": ("pgd", "jarn"),  # beyond the paper
    "trades": ("pgd_kl", "trades"),  # beyond the paper
}
DEFENSES = tuple(PAIRS)
_NAMES = {parts: name for name, parts in PAIRS.items()}
PRESETS = ("recommended", "paper", "authors")
PERTURBATIONS = ("none", "uniform_noise", "fgsm", "n_fgsm", "pgd", "pgd_kl")
REGULARIZERS = (
    "none", "jarn", "double_backprop", "l1_gradient", "frobenius", "trades", "gradient_alignment",
)  # fmt: skip
#: Perturbations that attack the classifier in training.
ADVERSARIAL = ("fgsm", "n_fgsm", "pgd", "pgd_kl")
#: Settings that leave the trained weights as they are.
WATCHING = ("epsilon", "robust_every", "keep_best_robust")
#: Settings that leave all results as they are.
NO_EFFECT = ("data_dir", "memory_share", "checkpoint_seconds")

_ATTACKED = {"perturbation": ADVERSARIAL}
_PENALIZED = {"regularizer": tuple(r for r in REGULARIZERS if r not in ("none", "jarn"))}
_JARN = {"regularizer": ("jarn",)}
_OF_A_JACOBIAN = {"regularizer": ("jarn", "double_backprop", "l1_gradient", "frobenius")}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config:
    """A training run, resolved: two runs of equal configs have the same result.

    Raises:
        ValueError: A value out of range, or values that do not go together.
    """

    dataset: str = setting(
        settings.DATASET,
        "What to train on: a known dataset, pictures in a folder a class, a NumPy archive, or any "
        "image classification set of TensorFlow Datasets.",
        "digits",
    )
    defense: str = setting(
        settings.choice(*DEFENSES),
        "How to train: the name of a perturbation of the training images and a regulariser.",
        "jarn",
    )
    preset: str = setting(
        settings.choice(*PRESETS),
        "Where unset flags take their values from: what measures best, what the paper's text "
        "says, or what the authors' released code does.",
        "recommended",
    )

    # The run
    seed: int = setting(
        settings.whole(least=0, most=2**32 - 2),  # NumPy's limit; Table 5 needs the next one too
        "Seed of weights, order, noise and augmentation.",
        0,
    )
    epochs: int = setting(settings.whole(), "Passes over the training images.")
    batch_size: int = setting(settings.whole(), "Images a step, over all replicas.")
    train_examples: int | None = setting(
        settings.whole(), "Use the first so many training images. Unset: all.", None
    )
    test_examples: int | None = setting(
        settings.whole(), "Use the first so many validation and test images. Unset: all.", None
    )
    augment: bool = setting(
        settings.TRUTH, "Random shifts of up to 4 pixels, and mirror images (Madry et al.)."
    )
    epsilon: float = setting(
        settings.RADIUS,
        "Radius of the attacks that the result is measured with, pixels being in [0, 1]. As a "
        "flag it sets training_epsilon too, unless that is given.",
    )

    # The classifier and its optimizer
    network: str = setting(
        settings.choice("mnist_cnn", "wide_resnet", "compact_cnn"), "The classifier."
    )
    init_from: str | None = setting(
        settings.TEXT,
        "A trained classifier, FILE.keras, to go on with in place of a new network. Unless they "
        "are given, pixel_scale is then 1 and jarn_start_fraction 0.",
        None,
    )
    activation: str = setting(
        settings.choice(*arguments.ACTIVATIONS), "The classifier's activation."
    )
    pixel_scale: float = setting(
        settings.POSITIVE,
        "Largest pixel value that the classifier expects: images in [0, 1] are multiplied by it.",
        only={"network": ("mnist_cnn",), "init_from": ()},
    )
    probabilities: bool = setting(
        settings.TRUTH,
        "Whether the classifier returns probabilities.",
        False,
        {"init_from": ()},
    )
    normalization: str = setting(
        settings.choice(*arguments.NORMALIZATIONS),
        "What compact_cnn normalises an image by: the statistics of CIFAR-10, or its own.",
        "dataset",
        {"network": ("compact_cnn",)},
    )
    wide_resnet_units: int = setting(
        settings.whole(), "Residual units a stage.", 5, {"network": ("wide_resnet",)}
    )
    wide_resnet_width: int = setting(
        settings.whole(), "Widening factor.", 10, {"network": ("wide_resnet",)}
    )
    weight_decay: float = setting(settings.NOT_NEGATIVE, "L2 coefficient of all networks' kernels.")
    classifier_optimizer: Optimizer = setting(settings.OPTIMIZER, "Rate alpha of Algorithm 1.")
    classifier_decay: tuple[tuple[float, float], ...] = setting(
        settings.DECAY,
        "From each fraction of the steps on, the classifier's rate is its first rate times the "
        "factor.",
    )

    # The perturbation of the training images
    perturbation: str = setting(
        settings.choice(*PERTURBATIONS),
        "What is done to the training images, if not what the defense does.",
    )
    training_epsilon: float = setting(
        settings.NOT_NEGATIVE,
        "Radius of the noise or attack on the training images, and of the noise of "
        "gradient_alignment; at most 1 but in norm l2.",
        only={"perturbation": PERTURBATIONS[1:], "regularizer": ("gradient_alignment",)},
    )
    training_norm: str = setting(
        settings.choice(*arguments.NORMS),
        "What the training attack's radius is measured in. l2 needs training_epsilon; epsilon is "
        "measured in linf whatever this is.",
        "linf",
        {"perturbation": ("fgsm", "pgd", "pgd_kl")},
    )
    noise_fraction: float = setting(
        settings.FRACTION,
        "Share of each batch that gets noise.",
        only={"perturbation": ("uniform_noise",)},
    )
    attack_steps: int = setting(
        settings.whole(),
        "Steps of the training attack.",
        only={"perturbation": ("pgd", "pgd_kl")},
    )
    attack_step_size: float | None = setting(
        settings.POSITIVE,
        "Step size of the training attack. Unset: that of attacks.AdversarialExamples; of "
        "n_fgsm that of attacks.NFGSM.",
        only=_ATTACKED,
        optional=True,
    )
    attack_random_start: bool = setting(
        settings.TRUTH,
        "Whether the training attack fgsm starts at a random point; the others always do.",
        only={"perturbation": ("fgsm",)},
    )
    epsilon_warmup_fraction: float = setting(
        settings.FRACTION,
        "Share of the steps over which the training attack's radius grows from 0.",
        only=_ATTACKED,
    )

    # The regulariser
    regularizer: str = setting(settings.choice(*REGULARIZERS), "Regulariser, if not the defense's.")
    penalty_weight: float = setting(
        settings.NOT_NEGATIVE, "Weight of every regulariser but JARN.", only=_PENALIZED
    )
    adversarial_weight: float = setting(settings.NOT_NEGATIVE, "lambda_adv of Eq. 10.", only=_JARN)
    discriminator_interval: int = setting(
        settings.whole(), "Steps between two updates of the discriminator.", only=_JARN
    )
    regularization_interval: int = setting(
        settings.whole(),
        "n: the regulariser counts on every n-th step alone, n times as much.",
        1,
        _OF_A_JACOBIAN,
    )
    jacobian_penalty: float = setting(
        settings.NOT_NEGATIVE,
        "Weight of the squared norm of JARN's J, beside JARN's term.",
        0.0,
        _JARN,
    )
    jarn_start_fraction: float = setting(
        settings.FRACTION, "Share of the steps before JARN's phase.", only=_JARN
    )
    jacobian_of: str = setting(
        settings.choice(*arguments.JACOBIANS),
        "What J is the gradient of: the loss (Eq. 6), the label's softmax, its logit, or that "
        "minus the largest other logit.",
        only=_JARN,
    )
    standardize: bool = setting(
        settings.TRUTH,
        "Zero mean and unit norm for J and for what the discriminator sees.",
        only=_JARN,
    )
    gan_loss: str = setting(
        settings.choice(*arguments.GAN_LOSSES),
        "What classifier and adaptor minimise: Eq. 9, or -log f_disc(J').",
        only=_JARN,
    )
    real_images: str = setting(
        settings.choice(*arguments.REAL_IMAGES),
        "What the discriminator is shown as real.",
        only=_JARN,
    )
    adaptor_trainable: bool = setting(
        settings.TRUTH, "Whether the adaptor learns; else J' = tanh(gain J).", only=_JARN
    )
    adaptor_gain: float = setting(
        settings.POSITIVE, "Factor on J in the adaptor at the start.", 1.0, _JARN
    )
    adaptor_optimizer: Optimizer = setting(settings.OPTIMIZER, "Rate beta.", only=_JARN)
    discriminator_filters: tuple[int, ...] = setting(
        settings.CHANNELS, "Channels of the discriminator's convolutions.", only=_JARN
    )
    discriminator_batch_norm: bool = setting(
        settings.TRUTH, "Batch normalisation in the discriminator.", only=_JARN
    )
    discriminator_patches: bool = setting(
        settings.TRUTH,
        "Whether the discriminator's logit is the mean of one logit a patch.",
        False,
        _JARN,
    )
    discriminator_penalty: float = setting(
        settings.NOT_NEGATIVE,
        "R1: weight of the squared gradient of the discriminator's logit at real images.",
        0.0,
        _JARN,
    )
    discriminator_noise: float = setting(
        settings.NOT_NEGATIVE,
        "Radius of the uniform noise on what the discriminator sees.",
        0.0,
        _JARN,
    )
    discriminator_optimizer: Optimizer = setting(settings.OPTIMIZER, "Rate gamma.", only=_JARN)

    # What is watched, and where the run takes place
    robust_every: int = setting(
        settings.whole(), "Epochs between two evaluations of robust accuracy during training.", 1
    )
    keep_best_robust: bool = setting(
        settings.TRUTH,
        "Whether to keep the classifier of the epoch of best robust accuracy.",
        False,
    )
    strategy: str = setting(
        settings.choice("mirrored", "multi_worker", "none"),
        "How to distribute training: all GPUs, or `replicas` logical CPUs; the workers of the "
        "variable TF_CONFIG; one device.",
        "mirrored",
    )
    replicas: int = setting(
        settings.whole(), "Logical CPUs to mirror over where there is no GPU.", 1
    )
    deterministic: bool = setting(
        settings.TRUTH,
        "Whether TensorFlow takes only operations that give the same result each time. On a CPU "
        "the ones that it takes do; on a GPU some do not.",
        False,
    )
    jit_compile: bool = setting(
        settings.TRUTH,
        "Whether XLA compiles the steps, on one device: JARN then takes 0.6 times the memory, on a "
        "CPU more time. It draws other noise, and images and losses are not checked.",
        False,
    )
    data_dir: str | None = setting(
        settings.TEXT, "TFDS folder. Unset: TFDS_DATA_DIR, else TFDS's default.", None
    )
    image_size: int | None = setting(
        settings.whole(),
        "Height and width that pictures of folder:DIR and tfds:NAME are brought to: the middle "
        "square, scaled. Unset: they are of one size.",
        None,
    )
    memory_share: float = setting(
        settings.FRACTION,
        "Share of the free memory that the images may take; else they are streamed from disk.",
        0.5,
    )
    checkpoint_seconds: float = setting(
        settings.NOT_NEGATIVE,
        "Time between two checkpoints inside an epoch; 0 for one at the end of each epoch alone.",
        300.0,
    )

    def __post_init__(self):
        for name, declared in declarations().items():
            declared.check(name, getattr(self, name))
        arguments.image_size(self.image_size, self.dataset)
        norm = self.training_norm if self.uses("training_norm") else "linf"
        arguments.radius(self.training_epsilon, "training_epsilon", norm)
        if norm == "l2" and self.regularizer == "gradient_alignment":
            raise ValueError(
                "gradient_alignment needs a radius in linf. Received: training_norm=l2."
            )
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

    @property
    def parts(self) -> tuple[str, str]:
        """What is trained, whatever defense it was named after: perturbation and regulariser."""
        return self.perturbation, self.regularizer

    @property
    def pair(self) -> str:
        """The defense's name, or of another pair `PERTURBATION+REGULARIZER`."""
        return self.defense if self.parts == PAIRS[self.defense] else "+".join(self.parts)

    def uses(self, name: str) -> bool:
        """Whether a setting has an effect on this run."""
        only = declarations()[name].only
        return not only or any(
            getattr(self, other) in values if values else getattr(self, other) is not None
            for other, values in only.items()
        )

    def as_dict(self) -> dict[str, Any]:
        """Every setting under one name each, nested ones joined by a dot; JSON values."""
        return _flat(dataclasses.asdict(self))


def defense_of(perturbation: str, regularizer: str) -> str | None:
    """The defense of a pair; None for a pair without a name."""
    return _NAMES.get((perturbation, regularizer))


def declarations() -> dict[str, Setting]:
    """Name of a setting to its declaration, in the order of `Config`."""
    return {field.name: field.metadata["setting"] for field in dataclasses.fields(Config)}


def defaults() -> dict[str, Any]:
    """The settings of `Config` that have a value of their own, as `as_dict` has them."""
    return {
        field.name: field.default
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
