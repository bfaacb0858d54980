"""The fast gradient sign method (Goodfellow et al., 2015)."""

from __future__ import annotations

import keras
import numpy as np

from jarn_tf import arguments
from jarn_tf.attacks.ascent import loss_and_gradient
from jarn_tf.attacks.ball import BALLS
from jarn_tf.attacks.batches import Images, Labels, in_batches


def fgsm(
    classifier: keras.Model,
    images: Images,
    labels: Labels = None,
    *,
    epsilon: float,
    norm: str = "linf",
    loss: str = "cross_entropy",
    batch_size: int = 128,
    progress: bool = False,
) -> np.ndarray:
    """One step of size epsilon along the loss's input gradient, no random start.

    In L-infinity along its sign, in L2 along the gradient itself.

    Args:
        classifier: Keras model from images in [0, 1] to logits; called with `training=False`.
        images: Images [n, height, width, channels], floating point in [0, 1] or `uint8`; or a
            `tf.data.Dataset` of batches of images and labels. See `attacks.batches`.
        labels: Integer labels [n] or [n, 1], or one-hot rows; None with a dataset.
        epsilon: Radius, pixels being in [0, 1].
        norm: What it is measured in: `"linf"` or `"l2"`.
        loss: `"cross_entropy"` or `"margin"`.
        batch_size: Images attacked at once. Memory depends on it, results but by rounding.
        progress: Whether to draw a progress bar with a time estimate on a terminal.

    Returns:
        Adversarial images, float32, within epsilon of `images` and within [0, 1].

    Raises:
        ValueError: Bad images, labels, epsilon, loss or batch size.
    """
    arguments.radius(epsilon, norm=norm)
    arguments.one_of("loss", loss, arguments.ATTACK_LOSSES)

    def attack(images, labels, first):
        del first  # nothing is random
        ball = BALLS[norm].around(images, epsilon)
        *_, gradient = loss_and_gradient(classifier, images, labels, loss)
        return ball.project(images + epsilon * ball.steepest(gradient))

    return in_batches("fgsm", attack, classifier, images, labels, batch_size, progress)
