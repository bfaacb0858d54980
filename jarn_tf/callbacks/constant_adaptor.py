"""Whether JARN's adaptor draws the same image whatever Jacobian it is given."""

from __future__ import annotations

import numpy as np

from jarn_tf.batches import slices
from jarn_tf.callbacks.one_warning import OneWarning
from jarn_tf.jacobian import input_jacobian

#: Images count as one if they differ by less than this share of the contrast within them.
_ONE_IMAGE = 0.1
#: An image is flat if its pixels deviate by less than one grey level of an 8-bit image.
_FLAT = 1 / 255


class ConstantAdaptorWarning(OneWarning):
    """Says that the adapted Jacobians of a `JARN` are all one image, or flat.

    L_adv then says nothing about the classifier's Jacobians: f_apt hides them (a generator that
    has collapsed to one output, Goodfellow, 2016), or they vanish before it, as that of the loss
    does where the classifier is sure. With J' as the discriminator sees it, the signs are: its
    standard deviation over the images (root mean square over the pixels) is below a tenth of that
    over an image's pixels; or in most images that over the pixels is below 1/255, as where tanh
    is saturated. Looked at once the adversarial phase has begun.

    Args:
        images: Float images [n, height, width, channels] in [0, 1], of several classes.
        labels: Their labels [n].
        batch_size: Images at a time; bounds the memory used.
    """

    def __init__(self, images: np.ndarray, labels: np.ndarray, batch_size: int = 500):
        super().__init__()
        self.images = images
        self.labels = labels
        self.batch_size = batch_size

    def fault(self, epoch: int, logs: dict) -> str | None:
        del epoch, logs
        if self.model.step <= self.model.start_step:
            return None
        seen = self._seen_by_discriminator()
        contrasts = seen.std(axis=1)
        contrast = np.sqrt(np.square(contrasts).mean())
        spread = np.sqrt(seen.var(axis=0).mean())
        if np.median(contrasts) < _FLAT:
            found = f"draws flat images for most of {len(seen)} validation images"
        elif spread < _ONE_IMAGE * contrast:
            found = (
                f"draws one image for all {len(seen)} validation images (standard deviation "
                f"{spread:.2g} over the images, {contrast:.2g} over the pixels)"
            )
        else:
            return None
        return (
            f"the adaptor {found}, so the discriminator learns nothing about the Jacobians. Lower "
            "the adaptor's learning rate or keep it fixed (adaptor_trainable=False); if the "
            "Jacobians themselves vanish, set jacobian_of=logit."
        )

    def _seen_by_discriminator(self) -> np.ndarray:
        """J' of every image as a row [n, pixels]; of unit contrast where it is standardised."""
        rows = []
        for part in slices(len(self.images), self.batch_size):
            adapted = self.model.adapt(
                input_jacobian(
                    self.model.classifier,
                    self.images[part],
                    self.labels[part],
                    self.model.jacobian_of,
                )
            )
            adapted = self.model.standardized(adapted)
            rows.append(adapted.numpy().reshape(len(adapted), -1).astype(np.float64))
        seen = np.concatenate(rows)
        return seen * np.sqrt(seen.shape[1]) if self.model.standardize else seen
