"""The masking verdict: can the figures of gradient attacks on this classifier be believed?"""

from __future__ import annotations

import dataclasses

import keras
import numpy as np

from jarn_tf import arguments, checks
from jarn_tf.evaluation import pixel_scale
from jarn_tf.evaluation.masking.evidence import UNDECIDED, Evidence, judge, most_serious
from jarn_tf.evaluation.masking.measurements import PGD, measure
from jarn_tf.labels import as_integers
from jarn_tf.resume import Parts


@dataclasses.dataclass(frozen=True)
class Verdict:
    """What `masking_verdict` finds.

    Attributes:
        label: `"masked"`: at least one piece of evidence says so; gradient attacks overstate the
            robustness. `"not masked"`: all of them say so. `"undecided"`: none says masked, but not
            all are clear.
        summary: What PGD leaves, and what all attacks here leave together, in words.
        evidence: The pieces of evidence.
        epsilon: The radius, in pixel units of [0, 1].
        examples: Number of images.
        accuracies: Name of an attack to radius to accuracy, 0 to 1.
    """

    label: str
    summary: str
    evidence: tuple[Evidence, ...]
    epsilon: float
    examples: int
    accuracies: dict[str, dict[float, float]]

    def as_dict(self) -> dict:
        """As JSON values; radii as text with all digits."""
        accuracies = {
            name: {repr(radius): value for radius, value in curve.items()}
            for name, curve in self.accuracies.items()
        }
        return dataclasses.asdict(self) | {"accuracies": accuracies}


def masking_verdict(
    classifier: keras.Model,
    images: np.ndarray,
    labels: np.ndarray,
    *,
    epsilon: float,
    seed: int = 0,
    progress: bool = False,
    parts: Parts | None = None,
) -> Verdict:
    """Judges whether a classifier masks its gradients.

    Where gradients are masked, attacks that follow them fail although there are adversarial
    images: the classifier looks robust and is not. One that falls under every attack masks nothing.
    What a gradient attack overstates by less than 10 % of the images is not called masking.
    The tests are those of Athalye et al., "Obfuscated gradients give a false sense of security"
    (ICML 2018), Carlini et al., "On evaluating adversarial robustness" (2019), and Tramer et al.,
    "On adaptive attacks to adversarial example defenses" (NeurIPS 2020).

    Args:
        classifier: Keras model from images in [0, 1] to logits; called with `training=False`.
        images: Images [n, height, width, channels], floating point in [0, 1] or `uint8`. 200 to 500
            are enough; with a few the verdict is `"undecided"`.
        labels: Integer labels [n] or [n, 1], or one-hot rows.
        epsilon: L-infinity radius that robustness is claimed for, in pixel units, above 0.
        seed: Seed of everything random.
        progress: Whether to draw a progress bar with a time estimate on a terminal.
        parts: Keeps what is done, so that the same call continues an interrupted one.

    Returns:
        The verdict with its evidence.

    Raises:
        ValueError: Bad images, labels, logits or epsilon.

    Warns:
        PixelScaleWarning: The classifier seems to expect pixels up to 255.
    """
    arguments.radius(epsilon)
    arguments.positive("epsilon", epsilon)
    arguments.seed(seed)
    images, labels = checks.batches(classifier, images, labels, batch_size=500)
    pixel_scale.warn(classifier, images, labels)
    images = checks.floats(images).numpy()
    labels = as_integers(labels)
    found = measure(classifier, images, labels, epsilon, seed, progress, parts or Parts(None, {}))
    evidence = judge(found)
    enough, *tests = (piece.label for piece in evidence)
    label = UNDECIDED if enough == UNDECIDED else most_serious(*tests)
    summary = (
        f"{found.accuracy(PGD):.1%} of the images withstand {PGD}, {found.left():.1%} every attack "
        "of this verdict."
    )
    return Verdict(label, summary, evidence, epsilon, len(images), found.accuracies())
