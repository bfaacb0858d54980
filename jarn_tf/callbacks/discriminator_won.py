"""Whether JARN's discriminator is no longer fooled at all."""

from __future__ import annotations

from jarn_tf.callbacks.one_warning import OneWarning

_WON = 0.99


class DiscriminatorWonWarning(OneWarning):
    """Says that the discriminator of a `JARN` always tells images from adapted Jacobians.

    The sign: over the steps of an epoch on which it learned, it took more than 99 % of the real
    images for real and more than 99 % of the adapted Jacobians for false. log(1 - f_disc(J')) of
    Eq. 9 is then flat in J' (Goodfellow et al., 2014; Arjovsky and Bottou, 2017), and the
    classifier learns next to nothing from it. With `gan_loss="non_saturating"` the gradient lasts,
    and training often passes through such epochs and comes back; so only the last epoch of `fit`
    is looked at. The accuracies are `discriminator_real_accuracy` and
    `discriminator_adapted_accuracy` of the logs, NaN before the adversarial phase.
    """

    def fault(self, epoch: int, logs: dict) -> str | None:
        real = logs.get("discriminator_real_accuracy", 0.0)
        adapted = logs.get("discriminator_adapted_accuracy", 0.0)
        if not (real > _WON and adapted > _WON):  # NaN where it did not learn in this epoch
            return None
        remedy = "Raise discriminator_interval or lower the discriminator's learning rate"
        if self.model.gan_loss == "minimax":
            remedy += ", or set gan_loss=non_saturating, whose gradient lasts"
        elif epoch + 1 < self.params["epochs"]:
            return None
        return (
            f"the discriminator has won: it takes {real:.1%} of the real images for real and "
            f"{adapted:.1%} of the adapted Jacobians for false, so the classifier learns little "
            f"from it. {remedy}."
        )
