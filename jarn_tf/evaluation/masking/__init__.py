"""Whether robustness under gradient attacks is real: the masking verdict."""

from jarn_tf.evaluation.masking.evidence import Evidence
from jarn_tf.evaluation.masking.verdict import Verdict, masking_verdict

__all__ = ["Evidence", "Verdict", "masking_verdict"]
