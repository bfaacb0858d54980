"""What JARN's discriminator is shown as real images."""

from __future__ import annotations

from collections.abc import Callable

import tensorflow as tf

#: Side in pixels of the square that `"blurred"` averages over.
_BLUR = 5


def real_images(kind: str, clean: tf.Tensor, perturbed: tf.Tensor) -> tf.Tensor:
    """The images that J' is to look like.

    Args:
        kind: One of `arguments.REAL_IMAGES`. `"perturbed"`: those that the classifier is trained
            on (Algorithm 1). `"clean"`: those of the dataset. Made of the clean ones, because a
            Jacobian can imitate them more easily: `"centred"`, in [-1, 1], the range of the
            adaptor's tanh; `"blurred"`, each pixel the mean of 5x5; `"grey"`, each channel the mean
            of all.
        clean: Images [batch, height, width, channels] in [0, 1].
        perturbed: The same, perturbed.

    Returns:
        Images of the same shape.
    """
    return _KINDS[kind](clean, perturbed)


def _blurred(images: tf.Tensor) -> tf.Tensor:
    return tf.nn.avg_pool2d(images, _BLUR, 1, "SAME")


def _grey(images: tf.Tensor) -> tf.Tensor:
    return tf.reduce_mean(images, axis=-1, keepdims=True) * tf.ones_like(images)


_KINDS: dict[str, Callable[[tf.Tensor, tf.Tensor], tf.Tensor]] = {
    "perturbed": lambda clean, perturbed: perturbed,
    "clean": lambda clean, perturbed: clean,
    "centred": lambda clean, perturbed: 2 * clean - 1,
    "blurred": lambda clean, perturbed: _blurred(clean),
    "grey": lambda clean, perturbed: _grey(clean),
}
