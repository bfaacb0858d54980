"""The tests for masked gradients: from what was measured to what it says."""

from __future__ import annotations

import dataclasses
import functools
import math

import numpy as np

from jarn_tf.evaluation.masking import measurements
from jarn_tf.evaluation.masking.measurements import Measurements

MASKED, NOT_MASKED, UNDECIDED = "masked", "not masked", "undecided"

#: PGD-40 on the cross-entropy is what papers report. On any classifier stronger attacks break some
#: images more, on MNIST up to 8 % of all; beyond this share the classifier hides something.
_TOLERANCE = 0.10
#: Images classified right that a verdict needs.
_FEWEST = 20
#: Of what noise leaves and the strongest attack breaks, a gradient step has to break this share.
_LEAST_OF_A_STEP, _CLEARLY_A_STEP = 0.10, 0.15
#: Difference of logits, in units of the largest one, where none should be. Rounding makes 1e-6.
_ROUNDING = 1e-3


@dataclasses.dataclass(frozen=True)
class Evidence:
    """One test for masked gradients.

    Attributes:
        name: What is compared.
        label: What it says by itself: `"masked"`, `"not masked"` or `"undecided"`.
        finding: What was found, in words.
        values: The figures behind it.
        advice: What to do about it, a sentence; empty where it says `"not masked"`.
    """

    name: str
    label: str
    finding: str
    values: dict[str, float]
    advice: str = ""


def most_serious(*labels: str) -> str:
    """Masked if any label is, else undecided if any is, else not masked."""
    return next((label for label in (MASKED, UNDECIDED) if label in labels), NOT_MASKED)


def _enough_images(found: Measurements) -> Evidence:
    right, total = int(found.clean.sum()), len(found.clean)
    label, told, advice = NOT_MASKED, f"{right} of {total} images are classified right.", ""
    if total > 1 and len(np.unique(found.predicted)) == 1:
        label, advice = UNDECIDED, "Train it again: it tells no classes apart."
        told = f"Every image is taken for class {found.predicted[0]}: there is nothing to attack."
    elif right < _FEWEST:
        label, advice = UNDECIDED, "Give more images that it classifies right."
        told = f"Only {right} of {total} images are classified right; {_FEWEST} are needed."
    values = {"examples": total, "right": right}
    return Evidence("images to judge by", label, told, values, advice)


def _missed_by_pgd(name: str, attack: str, found: Measurements) -> Evidence:
    """Whether another attack breaks many images that PGD on the cross-entropy does not."""
    withstand = found.of(measurements.PGD)
    missed = float((withstand & ~found.of(attack)).mean())
    told = (
        f"{withstand.mean():.1%} withstand {measurements.PGD} on the cross-entropy, "
        f"{found.accuracy(attack):.1%} {attack}; it breaks {missed:.1%} that PGD does not, where "
        f"{_TOLERANCE:.0%} ± {_error(_TOLERANCE, len(withstand)):.0%} are usual."
    )
    values = {
        "white_box": float(withstand.mean()),
        "other": found.accuracy(attack),
        "missed_by_white_box": missed,
    }
    return Evidence(name, _judged(missed, len(withstand)), told, values)


def _judged(share: float, examples: int) -> str:
    """The label for a share of images that should be small, in view of its sampling error."""
    if share - _error(share, examples) > _TOLERANCE:
        return MASKED
    return NOT_MASKED if share <= _TOLERANCE else UNDECIDED


def _error(share: float, examples: int) -> float:
    """Twice the standard error of a share of so many images."""
    return 2 * math.sqrt(share * (1 - share) / examples)


def _scale_of_logits(found: Measurements) -> Evidence:
    """Large logits saturate the softmax, and cross-entropy loses its gradient."""
    piece = _missed_by_pgd("scale of the logits", measurements.RESCALED, found)
    told = f"{piece.finding} The median lead of the largest logit is {found.median_lead:.3g}."
    values = piece.values | {"median_lead": found.median_lead}
    return dataclasses.replace(piece, finding=told, values=values)


def _more_steps(found: Measurements) -> Evidence:
    """More steps and restarts can only help an attacker whose gradients point the right way."""
    few, usual, many = (
        found.accuracy(attack)
        for attack in (measurements.FEW_STEPS, measurements.PGD, measurements.MANY_STEPS)
    )
    lost = max(usual - few, many - usual, many - few, 0.0)
    gained = float((found.of(measurements.PGD) & ~found.of(measurements.MANY_STEPS)).mean())
    label = most_serious(*(_judged(share, len(found.clean)) for share in (lost, gained)))
    told = f"{few:.1%} withstand 10 steps, {usual:.1%} 40, {many:.1%} 3 restarts of 100."
    values = {"steps_10": few, "steps_40": usual, "steps_100_restarts_3": many}
    return Evidence("more steps and restarts", label, told, values)


def _growing_radius(found: Measurements) -> Evidence:
    """At epsilon 1 every image is within reach, and on the way there accuracy can only fall."""
    accuracies = list(found.accuracies()[measurements.PGD].values())
    rise = max(later - min(accuracies[: i + 1]) for i, later in enumerate(accuracies))
    at_1 = accuracies[-1]
    label = most_serious(*(_judged(share, len(found.clean)) for share in (at_1, rise)))
    told = f"{at_1:.1%} withstand {measurements.PGD} at epsilon 1."
    if rise > 0.02:
        told += f" On the way there accuracy rises by {rise:.1%}."
    return Evidence("epsilon growing to 1", label, told, {"at_1": at_1, "largest_rise": rise})


def _zero_gradients(found: Measurements) -> Evidence:
    zero = found.gradient[found.clean] < np.finfo(np.float32).tiny
    share = float(zero.mean()) if len(zero) else 0.0
    told = f"{share:.1%} of the images classified right have a gradient that is 0 or denormal."
    return Evidence("zero gradients", _judged(share, max(len(zero), 1)), told, {"share": share})


def _single_step(found: Measurements) -> Evidence:
    """Where an image can be broken, a step along the gradient has to do more than noise does.

    If it does not, training has overfitted to the single step: catastrophic overfitting (Wong et
    al., ICLR 2020; Andriushchenko & Flammarion, NeurIPS 2020).
    """
    noise, step = found.accuracy(measurements.NOISE), found.accuracy(measurements.FGSM)
    others = measurements.PGD, measurements.MARGIN, measurements.SQUARE
    worst = float(np.logical_and.reduce([found.of(attack) for attack in others]).mean())
    label = NOT_MASKED
    if noise - worst > 2 * _TOLERANCE:
        broken = (noise - step) / (noise - worst)
        if broken < _CLEARLY_A_STEP:
            label = MASKED if broken < _LEAST_OF_A_STEP else UNDECIDED
    told = (
        f"{noise:.1%} withstand uniform noise, {step:.1%} a single step (FGSM), "
        f"{worst:.1%} PGD, PGD on the margin and Square together."
    )
    values = {"noise": noise, "single_step": step, "worst": worst}
    return Evidence("single step against noise", label, told, values)


def _differing(name: str, what: str, differences: np.ndarray) -> Evidence:
    typical, largest = float(np.median(differences)), float(differences.max())
    label = NOT_MASKED
    if largest > _ROUNDING:
        label = MASKED if typical > measurements.DIFFERENT else UNDECIDED
    told = f"Logits differ {what} by {typical:.1g} of the largest (median)."
    return Evidence(name, label, told, {"median": typical, "largest": largest})


def _stochastic(found: Measurements) -> Evidence:
    """Randomness spoils single gradients, and an attack that averages over it does better."""
    piece = _differing("stochastic output", "between calls on the same input", found.repeated)
    if found.right_under_rand is None:
        return piece
    left, number = float(found.right_under_rand.mean()), len(found.right_under_rand)
    told = (
        f"{piece.finding} AutoAttack for such models (version rand) leaves {left:.1%} of {number} "
        "images."
    )
    return dataclasses.replace(piece, finding=told, values=piece.values | {"rand": left})


def _training_mode(found: Measurements) -> Evidence:
    """Batch statistics at test time make the answer depend on the other images of the batch."""
    piece = _differing("training-mode layers", "between an image alone and in a batch", found.alone)
    if not found.changed:
        return piece
    told = f"{piece.finding} Inference changes {', '.join(found.changed)}."
    return dataclasses.replace(piece, finding=told)


def _against(name: str, attack: str):
    return functools.partial(_missed_by_pgd, name, attack)


#: Every test of the gradients, and what to do if it says masked.
_TESTS = (
    (
        _against("gradient-free against white-box", measurements.SQUARE),
        "Quote AutoAttack, whose Square asks for logits alone, and not PGD.",
    ),
    (
        _against("transfer against white-box", measurements.TRANSFER),
        "Attack a network of the same task that has gradients, and quote what withstands.",
    ),
    (
        _against("margin against cross-entropy", measurements.MARGIN),
        "Quote AutoAttack, or PGD on the margin (pgd40_margin), and not PGD on the cross-entropy.",
    ),
    (
        _more_steps,
        "Raise steps and restarts until accuracy falls no more, and quote what is left then.",
    ),
    (
        _growing_radius,
        "Quote no gradient attack, as this one fails where every image is within its reach; attack "
        "the network without what hides its gradient (BPDA, Athalye et al., 2018).",
    ),
    (
        _zero_gradients,
        "Replace what has no gradient, such as rounding, by something smooth while you attack "
        "(BPDA, Athalye et al., 2018).",
    ),
    (
        _scale_of_logits,
        "Quote AutoAttack, whose losses do not depend on the scale of the logits.",
    ),
    (
        _against("uniform noise against white-box", measurements.NOISE),
        "Quote Square: noise finds what the gradients lead away from.",
    ),
    (
        _single_step,
        "Do not quote FGSM; train with a random start, more steps or a smaller radius, as training "
        "has overfitted to the single step.",
    ),
    (
        _stochastic,
        "Quote AutoAttack for such models, on all images (--attacks=autoattack --version=rand).",
    ),
    (
        _training_mode,
        "Have batch normalisation, dropout and the like answer as in inference, and judge again.",
    ),
)


def judge(found: Measurements) -> tuple[Evidence, ...]:
    """Whether there are enough images, then what each test says, with what to do about it."""
    return _enough_images(found), *(_advised(test(found), advice) for test, advice in _TESTS)


def _advised(piece: Evidence, advice: str) -> Evidence:
    if piece.label == UNDECIDED:
        advice = f"Judge more images, which make it clear. If it is masked: {advice}"
    return piece if piece.label == NOT_MASKED else dataclasses.replace(piece, advice=advice)
