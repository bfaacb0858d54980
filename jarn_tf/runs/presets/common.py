"""What the presets of several datasets share."""

from __future__ import annotations

from jarn_tf.runs.presets.claims import Values
from jarn_tf.runs.settings import Optimizer

OURS = "ours"
NOT_SAID = "ours: the paper does not say"
MADRY = "Madry et al., whom the paper points to"
AUTHORS = "authors' code"

#: The paper says no more of the baselines than their names, the 7 steps of PGD-AT7 and the one of
#: FGSM-AT1; JARN's options are those of Algorithm 1 as it is printed.
PAPER_OPTIONS: Values = {
    "noise_fraction": (1.0, "paper, Algorithm 1 line 4"),
    "attack_steps": (7, "paper, PGD-AT7"),
    "attack_step_size": (None, "Madry et al.: 2/255 at 8/255 and 7 steps"),
    "attack_random_start": (False, "paper, FGSM-AT1: one step, as FGSM is defined"),
    "epsilon_warmup_fraction": (0.0, "paper: none is spoken of"),
    "penalty_weight": (1.0, NOT_SAID),
    "jarn_start_fraction": (0.75, "paper, Section 3: 'the last few epoch (25%)'"),
    "jacobian_of": ("loss", "paper, Eq. 6"),
    "standardize": (False, "paper, Algorithm 1: none is spoken of"),
    "gan_loss": ("minimax", "paper, Eq. 9"),
    "real_images": ("perturbed", "paper, Algorithm 1"),
    "adaptor_trainable": (True, "paper, Algorithm 1 line 10"),
    "discriminator_batch_norm": (False, "paper: none is spoken of"),
}

#: What the authors' released CIFAR-10 code does and the paper does not say. Their Wide-ResNet
#: standardises its input; `mnist_cnn` gets their pixel range instead.
AUTHORS_CODE: Values = {
    "batch_size": (64, AUTHORS),
    "jacobian_of": ("softmax", AUTHORS),
    "standardize": (True, AUTHORS),
    "discriminator_batch_norm": (True, AUTHORS),
    "jarn_start_fraction": (0.875, "authors' code: 140,000 of 160,000 steps"),
    "adaptor_optimizer": (
        Optimizer("sgd", 1e-3, momentum=0.9),
        "authors' code: their rate in that phase",
    ),
    "discriminator_optimizer": (
        Optimizer("sgd", 1e-3, momentum=0.9),
        "authors' code: their rate in that phase",
    ),
}

#: JARN's options, where a dataset has not measured better ones of its own.
RECOMMENDED_OPTIONS: Values = {
    "noise_fraction": (0.5, "ours, MNIST's validation split"),
    "adversarial_weight": (0.05, "ours, MNIST's validation split"),
    "discriminator_interval": (2, "ours, MNIST's validation split"),
    "jarn_start_fraction": (0.25, "ours, MNIST's validation split"),
    "jacobian_of": ("logit", "ours, MNIST's validation split"),
    "gan_loss": ("non_saturating", "ours, MNIST's validation split"),
    "real_images": ("clean", "ours, MNIST's validation split"),
    "adaptor_trainable": (False, "ours, MNIST's validation split"),
    "discriminator_optimizer": (Optimizer("adam", 5e-4), "ours, MNIST's validation split"),
}

#: A single step from the image itself overfits catastrophically.
RANDOM_START: Values = {"attack_random_start": (True, "Wong et al., 2020")}

TRADES_STEPS: Values = {"attack_steps": (10, "Zhang et al., 2019, on CIFAR-10")}

REGULARIZERS: dict[str, Values] = {
    "double_backprop": {"penalty_weight": (2.5, OURS)},
    "l1_gradient": {"penalty_weight": (0.1, "ours, not measured")},
    "frobenius": {"penalty_weight": (0.005, "Hoffman et al., 2019: 0.01 times half of the norm")},
    "trades": {"penalty_weight": (6.0, "Zhang et al., 2019, on CIFAR-10")},
    "gradient_alignment": {
        "penalty_weight": (0.2, "Andriushchenko & Flammarion, 2020, on CIFAR-10 at 8/255")
    },
}
