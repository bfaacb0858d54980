"""JARN: Jacobian Adversarially Regularized Networks (ICLR 2020) in Keras."""

from jarn_tf import attacks, data, evaluation, networks
from jarn_tf.baselines import (
    TRADES,
    GradientAlignment,
    InputGradientPenalty,
    LogitJacobianPenalty,
)
from jarn_tf.classifiers import as_classifier
from jarn_tf.defense import Defense
from jarn_tf.jacobian import input_jacobian
from jarn_tf.jarn import JARN

__version__ = "0.1.0"
__all__ = [
    "JARN",
    "TRADES",
    "Defense",
    "GradientAlignment",
    "InputGradientPenalty",
    "LogitJacobianPenalty",
    "as_classifier",
    "attacks",
    "data",
    "evaluation",
    "input_jacobian",
    "networks",
]
