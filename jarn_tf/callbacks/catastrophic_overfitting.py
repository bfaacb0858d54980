"""Whether single-step adversarial training has overfitted to its single step."""

from __future__ import annotations

from jarn_tf.callbacks.one_warning import OneWarning
from jarn_tf.callbacks.robust_accuracy import RobustAccuracy
from jarn_tf.evaluation import Attack

#: FGSM does nothing: it leaves at least this share of the clean accuracy.
_FGSM_LEAVES = 0.9
#: PGD does much: it leaves less than this share of what FGSM leaves.
_PGD_LEAVES = 0.5


class CatastrophicOverfittingWarning(OneWarning):
    """Says that a classifier withstands FGSM and falls to PGD of the same radius.

    Adversarial training of a single step ends there (Wong et al., 2020): the loss stops being
    locally linear, so one step along its gradient finds nothing although the ball is full of
    adversarial images (Andriushchenko and Flammarion, 2020). The accuracy in training looks better
    than ever.

    The sign is that, on the same images, FGSM leaves at least 0.9 of the clean accuracy and PGD
    less than half of what FGSM leaves. The first rules out a standard classifier, and one attacked
    at the full radius during the warm-up: FGSM itself takes much of their accuracy wherever PGD
    takes most. The second rules out healthy adversarial training, where PGD takes little more than
    FGSM. No earlier epoch is compared with: on MNIST at 0.3 the accuracy under PGD need not rise
    before it falls, and resumed training warns as unbroken training does.

    Put it after `robust_accuracy`, whose value in the logs it reads.

    Args:
        robust_accuracy: The accuracy under PGD; its images, labels, radius and epochs are used.

    Raises:
        ValueError: The attack of `robust_accuracy` has no more than one step.
    """

    def __init__(self, robust_accuracy: RobustAccuracy):
        super().__init__()
        if robust_accuracy.attack.steps < 2:
            raise ValueError(
                "robust_accuracy must be under an attack of several steps, such as pgd10. "
                f"Received: {robust_accuracy.attack.name}."
            )
        self.robust_accuracy = robust_accuracy

    def fault(self, epoch: int, logs: dict) -> str | None:
        del epoch
        if "val_robust_accuracy" not in logs:
            return None
        attacked = self.robust_accuracy
        single_step = [Attack("clean", 0.0), Attack("fgsm", attacked.attack.epsilon)]
        clean, fgsm = attacked.accuracies(single_step)
        under_pgd = logs["val_robust_accuracy"]
        if fgsm < _FGSM_LEAVES * clean or under_pgd >= _PGD_LEAVES * fgsm:
            return None
        return (
            f"FGSM leaves {fgsm:.1%} right of {clean:.1%} validation images, "
            f"{attacked.attack.name} {under_pgd:.1%}: catastrophic overfitting to a single step. "
            "Train with several steps (perturbation=pgd, attack_steps), start the step at random "
            "(attack_random_start) or in more noise (perturbation=n_fgsm), add "
            "regularizer=gradient_alignment, lower epsilon or raise epsilon_warmup_fraction; "
            "keep_best_robust keeps the best epoch."
        )
