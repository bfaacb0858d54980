"""`--dataset=cifar10`: Section 4.3 of the paper, which points to Madry et al. for the training.

The preset `paper` was run reduced alone (`launch.reproduce --scale=small`, which trains the compact
network of `COMPACT`); 205 epochs of the full Wide-ResNet take a GPU.
"""

from __future__ import annotations

from jarn_tf.runs.presets.claims import Preset, Values
from jarn_tf.runs.presets.common import (
    AUTHORS_CODE,
    MADRY,
    OURS,
    PAPER_OPTIONS,
    RANDOM_START,
    RECOMMENDED_OPTIONS,
    REGULARIZERS,
    TRADES_STEPS,
)
from jarn_tf.runs.settings import Optimizer

_PAPER: Values = {
    "epochs": (205, "Madry et al.: 80,000 steps of 128"),
    "batch_size": (128, MADRY),
    "augment": (True, MADRY),
    "epsilon": (8 / 255, "paper, Section 4.3"),
    "network": ("wide_resnet", "paper, Section 4.3"),
    "activation": ("leaky_relu", MADRY),
    "pixel_scale": (1.0, "the network standardises each image itself"),
    "weight_decay": (2e-4, MADRY),
    "classifier_optimizer": (Optimizer("sgd", 0.1, momentum=0.9), MADRY),
    "classifier_decay": (((0.5, 0.1), (0.75, 0.01)), "Madry et al.: at 40,000 and 60,000 steps"),
    "training_epsilon": (8 / 255, "paper, Section 4.3"),
    "adversarial_weight": (1.0, "paper, Section 4.3"),
    "discriminator_interval": (20, "paper, Section 4.3"),
    "adaptor_optimizer": (
        Optimizer("sgd", 1e-3, momentum=0.9),
        "ours: the classifier's rate in JARN's phase",
    ),
    "discriminator_filters": ((32, 64, 128, 256, 512), "paper, Section 4.3"),
    "discriminator_optimizer": (
        Optimizer("sgd", 1e-3, momentum=0.9),
        "ours: the classifier's rate in JARN's phase",
    ),
} | PAPER_OPTIONS

#: A network and a schedule for two cores: 80 % of the test images after standard training.
COMPACT: Values = {
    "epochs": (12, OURS),
    "network": ("compact_cnn", OURS),
    "activation": ("gelu", OURS),
    "weight_decay": (0.0, OURS),
    "classifier_optimizer": (Optimizer("adam", 3e-3), OURS),
    "classifier_decay": (
        tuple((step / 20, (20 - step) / 20) for step in range(1, 20)),
        "ours: linear",
    ),
    "adaptor_optimizer": (Optimizer("adam", 1e-3), OURS),
    "discriminator_optimizer": (Optimizer("adam", 1e-3), OURS),
}

PAPER = Preset(
    base=_PAPER,
    perturbations={"pgd_kl": TRADES_STEPS},
    regularizers=REGULARIZERS,
)

AUTHORS = Preset(
    base=_PAPER | AUTHORS_CODE,
    perturbations=PAPER.perturbations,
    regularizers=REGULARIZERS,
)

_LEVERS = "ours, validation split: `launch.reproduce --experiment=levers`"

# JARN's other options are those of `RECOMMENDED_OPTIONS`. Double backprop withstands as much at
# equal clean accuracy. The levers' penalties are on noisy images.
RECOMMENDED = Preset(
    base=_PAPER
    | COMPACT
    | RECOMMENDED_OPTIONS
    | {
        "discriminator_filters": ((16, 32, 64), OURS),
        "discriminator_optimizer": COMPACT["discriminator_optimizer"],
        "jacobian_of": ("margin", _LEVERS),
        "adversarial_weight": (0.1, _LEVERS),
        "regularization_interval": (4, f"{_LEVERS}; L1 and Frobenius not measured"),
    },
    perturbations=PAPER.perturbations | {"fgsm": RANDOM_START},
    regularizers=REGULARIZERS | {"double_backprop": {"penalty_weight": (0.1, _LEVERS)}},
)
