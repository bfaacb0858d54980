"""Attacks: functions of (classifier, images, labels) to adversarial images in [0, 1].

What they take for images, and what `batch_size` changes, is said in `attacks.batches`.
"""

from jarn_tf.attacks.adversarial_training import AdversarialExamples
from jarn_tf.attacks.apgd import apgd, apgd_loss
from jarn_tf.attacks.autoattack import autoattack
from jarn_tf.attacks.fab import fab
from jarn_tf.attacks.fgsm import fgsm
from jarn_tf.attacks.linf import linf_bounds, project_linf
from jarn_tf.attacks.n_fgsm import NFGSM
from jarn_tf.attacks.noise import UniformNoise
from jarn_tf.attacks.pgd import default_step_size, pgd
from jarn_tf.attacks.square import square

__all__ = [
    "NFGSM",
    "AdversarialExamples",
    "UniformNoise",
    "apgd",
    "apgd_loss",
    "autoattack",
    "default_step_size",
    "fab",
    "fgsm",
    "linf_bounds",
    "pgd",
    "project_linf",
    "square",
]
