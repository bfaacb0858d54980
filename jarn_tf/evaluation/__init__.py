"""How robust a classifier is, and what its Jacobians look like."""

from jarn_tf.evaluation.figures import image_grid, jacobian_figure, jacobian_pictures
from jarn_tf.evaluation.robustness import ATTACK_NAMES, Attack, robustness
from jarn_tf.evaluation.saliency import jacobian_image_correlation

__all__ = [
    "ATTACK_NAMES",
    "Attack",
    "image_grid",
    "jacobian_figure",
    "jacobian_image_correlation",
    "jacobian_pictures",
    "robustness",
]
