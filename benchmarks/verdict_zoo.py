"""The verdict on thirty classifiers of known answer, by an author who did not know its code.

    python -m benchmarks.verdict_zoo [--only=NAME,..]

Prints a Markdown table: of each classifier what PGD-40 and the attack that knows its construction
leave right, beside what `evaluation.masking_verdict` says; then the evidence on those it gets
wrong. A truth of "masked" needs at least ten points between the two attacks, "not masked" at most
five: a row whose figures do not bear its truth out says so and is not right, whatever the verdict.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from typing import NamedTuple

import keras
import numpy as np
import tensorflow as tf

from benchmarks import timing
from benchmarks.zoo_models import HONEST, MASKED, ZOO, Built, Member, digits
from jarn_tf import attacks, evaluation

SEED, EXAMPLES = 0, 100
#: Passes that choose the strongest attack on a classifier with randomness, and as many others that
#: then count, so that the choice flatters nobody.
DRAWS = 8
CLEAR_GAP, NO_GAP = 0.1, 0.05
COLUMNS = [
    *("model", "radius", "truth", "why", "verdict"),
    *("clean", "PGD", "knowing attack", "right", "seconds"),
]


def main() -> None:
    parser = argparse.ArgumentParser(description="The verdict on classifiers of known answer.")
    parser.add_argument("--only", default=",".join(ZOO), help="names, with commas between")
    names = parser.parse_args().only.split(",")
    if unknown := sorted(set(names) - set(ZOO)):
        parser.error(f"--only must name models of {', '.join(ZOO)}. Received: {unknown}.")
    tf.config.threading.set_intra_op_parallelism_threads(1)
    timing.print_circumstances(SEED)
    print_row(COLUMNS)
    print_row(["---"] * len(COLUMNS))
    outcomes = {name: outcome(name, ZOO[name]) for name in names}
    wrong = {name: found for name, found in outcomes.items() if not found.right}
    for name, found in wrong.items():
        print(f"\n{name}, {ZOO[name].truth}: {found.text}")
    missed = sum(found.missed for found in wrong.values())
    score = f"{len(names) - len(wrong)} of {len(names)} right"
    print(f"\n{score}, {missed} masked ones called not masked")


class Outcome(NamedTuple):
    """How the verdict did on one classifier; `text` is its evidence."""

    text: str
    right: bool
    missed: bool  # called not masked, though it masks


def outcome(name: str, member: Member) -> Outcome:
    """Builds, attacks and judges a classifier, and prints its row."""
    begin = time.perf_counter()
    keras.utils.set_random_seed(SEED)
    built = member.build()
    images, labels = digits().test.floats[:EXAMPLES], digits().test.labels[:EXAMPLES]
    labels = member.relabel(labels)
    clean, pgd, knowing = withstood(built, images, labels, member.epsilon)
    judging = time.perf_counter()
    label, text = judged(built.model, images, labels, member.epsilon)
    borne_out = bears_out(member.truth, pgd - knowing)
    agrees = borne_out and label == member.truth
    verdict_on = "yes" if agrees else "**no**" if borne_out else "**truth not borne out**"
    figures = [f"{100 * share:.0f}" for share in (clean, pgd, knowing)]
    seconds = f"{judging - begin:.0f} + {time.perf_counter() - judging:.0f}"
    about = [name, f"{member.epsilon:g}", member.truth, member.why]
    print_row([*about, label, *figures, verdict_on, seconds])
    return Outcome(text, agrees, borne_out and (member.truth, label) == (MASKED, HONEST))


def withstood(built: Built, images: np.ndarray, labels: np.ndarray, epsilon: float) -> tuple:
    """Shares right: clean, under PGD, and under the worst for each image that the knowing found."""
    made = [images, *(attack(images, labels, epsilon) for attack in built.knowing)]
    pgd = attacks.pgd(built.model, images, labels, epsilon=epsilon)
    chosen = np.argmin([right(built.model, one, labels) for one in made], axis=0)
    worst = np.stack(made)[chosen, np.arange(len(images))]
    return tuple(right(built.model, one, labels).mean() for one in (images, pgd, worst))


def right(model: keras.Model, images: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """How often the model is right on each image."""
    passes = [np.argmax(model(images, training=False), axis=-1) == labels for _ in range(DRAWS)]
    return np.mean(passes, axis=0)


def judged(
    model: keras.Model, images: np.ndarray, labels: np.ndarray, epsilon: float
) -> tuple[str, str]:
    """The verdict's label and its evidence in words."""
    try:
        verdict = evaluation.masking_verdict(model, images, labels, epsilon=epsilon)
    except ValueError as error:
        return "refused", str(error)
    return verdict.label, evaluation.verdict_text(verdict)


def bears_out(truth: str, gap: float) -> bool:
    """Whether what PGD leaves beyond the knowing attack fits the truth claimed."""
    return gap >= CLEAR_GAP if truth == MASKED else gap <= NO_GAP


def print_row(cells: Sequence[str]) -> None:
    print(f"| {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
