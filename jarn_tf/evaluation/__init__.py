"""How robust a classifier is, and what its Jacobians look like."""

from jarn_tf.evaluation.attack import Attack
from jarn_tf.evaluation.curves import verdict_figure
from jarn_tf.evaluation.figures import (
    differentiated,
    jacobian_board,
    jacobian_figure,
    jacobian_pictures,
    jacobians_of,
    signed_to_pixels,
)
from jarn_tf.evaluation.interval import accuracy_interval
from jarn_tf.evaluation.masking import Evidence, Verdict, masking_verdict
from jarn_tf.evaluation.pixel_scale import PixelScaleWarning
from jarn_tf.evaluation.report import (
    in_words,
    report,
    report_markdown,
    report_text,
    verdict_text,
    warnings_of,
)
from jarn_tf.evaluation.robustness import only_class, robustness
from jarn_tf.evaluation.saliency import (
    alignment_and_robustness,
    jacobian_image_correlation,
    saliency,
)
from jarn_tf.evaluation.surface import loss_surface
from jarn_tf.evaluation.transfer import transfer

__all__ = [
    "Attack",
    "Evidence",
    "PixelScaleWarning",
    "Verdict",
    "accuracy_interval",
    "alignment_and_robustness",
    "differentiated",
    "jacobian_board",
    "jacobian_figure",
    "jacobian_image_correlation",
    "jacobian_pictures",
    "jacobians_of",
    "loss_surface",
    "masking_verdict",
    "only_class",
    "in_words",
    "report",
    "report_markdown",
    "report_text",
    "robustness",
    "saliency",
    "signed_to_pixels",
    "transfer",
    "verdict_figure",
    "verdict_text",
    "warnings_of",
]
