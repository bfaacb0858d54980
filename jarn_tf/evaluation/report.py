"""Everything that is said of a classifier: accuracies, saliency, whether it has collapsed."""

from __future__ import annotations

import pathlib
import textwrap
from collections.abc import Sequence

import keras
import numpy as np

from jarn_tf.evaluation import pixel_scale
from jarn_tf.evaluation.attack import Attack
from jarn_tf.evaluation.interval import interval_text
from jarn_tf.evaluation.masking import Verdict
from jarn_tf.evaluation.robustness import only_class, robustness
from jarn_tf.evaluation.saliency import saliency
from jarn_tf.labels import as_integers
from jarn_tf.resume import Parts


def report(
    classifier: keras.Model,
    images: np.ndarray,
    labels: np.ndarray,
    list_of_attacks: Sequence[Attack],
    parts: Parts | None = None,
    save_to: pathlib.Path | None = None,
) -> dict:
    """Evaluates a classifier.

    Args:
        classifier: Keras model from images in [0, 1] to logits; run in inference mode.
        images: Float images [n, height, width, channels] in [0, 1].
        labels: Integer labels [n] or [n, 1], or one-hot rows.
        list_of_attacks: The attacks; clean accuracy comes first by itself.
        parts, save_to: As in `robustness`.

    Returns:
        `examples`: n. `attacks`: the rows of `robustness`. `collapsed_to_class`: the class that
        every image is taken for, although there are several; else None. `saliency`: see there.
        `accuracy_on_255`: see there; only where it is much better.
    """
    rows = robustness(
        classifier,
        images,
        labels,
        [Attack("clean", 0.0), *list_of_attacks],
        parts=parts,
        save_to=save_to,
    )
    several = len(np.unique(as_integers(labels))) > 1
    found = {
        "examples": len(labels),
        "attacks": rows,
        "collapsed_to_class": only_class(classifier, images) if several else None,
        "saliency": saliency(classifier, images, labels),
    }
    scaled = pixel_scale.accuracy_on_255(classifier, images, labels)
    return found if scaled is None else found | {"accuracy_on_255": scaled}


def in_words(found: dict) -> str:
    """What is left of the accuracy of a `report`, with 95 % intervals, a sentence a radius."""
    rows = [row for row in found["attacks"] if row["name"] not in ("clean", "worst_case")]
    clean = next(row for row in found["attacks"] if row["name"] == "clean")
    text = f"Of {found['examples']:,} test images {_share(clean, found)} are classified right."
    for ball in dict.fromkeys(_ball(row) for row in rows):
        left = [f"{title_of(r)} leaves {_share(r, found)}" for r in rows if _ball(r) == ball]
        norm, epsilon = ball
        text += f" At {'L2 ' if norm == 'l2' else ''}epsilon {epsilon:.3g} {', '.join(left)}."
    return textwrap.fill(f"{text} In brackets 95 % intervals.", 100)


def _share(row: dict, found: dict) -> str:
    return f"{row['accuracy']:.1%} {interval_text(row['accuracy'], found['examples'])}"


def report_text(found: dict) -> str:
    """A `report` for the terminal; epsilon with all its digits."""
    lines = [
        f"Accuracy on {found['examples']} test images, with its 95 % interval",
        f"{'attack':<18}{'epsilon':>10}{'restarts':>10}{'accuracy':>10}{'':16}{'seconds':>10}",
    ]
    for row in found["attacks"]:
        epsilon, restarts, accuracy, interval = _cells(row, found["examples"])
        lines.append(
            f"{_name(row):<18}{epsilon:>10}{restarts:>10}{accuracy:>10} {interval:<15}"
            f"{row['seconds']:>10.1f}"
        )
        if "instead" in row:
            lines.append(f"  Note: {row['instead']}.")
    lines += ["", "Saliency"]
    lines += [f"{name:<44}{value}" for name, value in _saliency_lines(found["saliency"])]
    return "\n".join([*lines, *warnings_of(found)])


def report_markdown(found: dict) -> str:
    """The accuracies of a `report`, and its `verdict` if it has one as `Verdict.as_dict` gives."""
    lines = [in_words(found), "", "| attack | epsilon | restarts | accuracy | 95 % interval |"]
    lines.append("|---|---|---|---|---|")
    for row in found["attacks"]:
        lines.append(f"| {' | '.join((_name(row), *_cells(row, found['examples'])))} |")
    notes = [f"{row['name']}: {row['instead']}." for row in found["attacks"] if "instead" in row]
    lines += [line for note in (*notes, *warnings_of(found)) for line in ("", note)]
    verdict = found.get("verdict")
    if verdict:
        lines += [
            "",
            f"Gradient masking at epsilon {verdict['epsilon']:.6g}, {verdict['examples']} images: "
            f"**{verdict['label'].upper()}**. {verdict.get('summary', '')}",
            "",
        ]
        for piece in verdict["evidence"]:
            told = f"{piece['finding']} {piece.get('advice', '')}".rstrip()
            lines.append(f"- {piece['name']}: **{piece['label']}**. {told}")
    return "\n".join(lines)


def verdict_text(verdict: Verdict) -> str:
    """A masking verdict for the terminal: the label, then a table of the evidence."""
    lines = [
        f"Gradient masking at epsilon {verdict.epsilon:.6g}, {verdict.examples} images: "
        f"{verdict.label.upper()}",
        verdict.summary,
        f"{'evidence':<34}{'says':<12}found",
    ]
    for piece in verdict.evidence:
        first, *rest = textwrap.wrap(f"{piece.finding} {piece.advice}", 74)
        lines.append(f"{piece.name:<34}{piece.label:<12}{first}")
        lines += [" " * 46 + line for line in rest]
    return "\n".join(lines)


def _ball(row: dict) -> tuple[str, float]:
    """Norm and radius of a row; of L-infinity where a file does not say it."""
    return row.get("norm", "linf"), row["epsilon"]


def title_of(row: dict) -> str:
    """The attack's name of a row, of AutoAttack with the version where that is not standard."""
    return " ".join((row["name"], *([row["version"]] if "version" in row else [])))


def _name(row: dict) -> str:
    """The title with the norm where that is not L-infinity."""
    return title_of(row) + (" (L2)" if _ball(row)[0] == "l2" else "")


def _cells(row: dict, examples: int) -> tuple[str, str, str, str]:
    """Epsilon, restarts, accuracy and its interval of a row."""
    epsilon = f"{row['epsilon']:.6g}" if row["steps"] else "-"
    interval = interval_text(row["accuracy"], examples)
    return epsilon, str(row["restarts"] or "-"), f"{row['accuracy']:.2%}", interval


def warnings_of(found: dict) -> list[str]:
    """What is wrong with the classifier of a `report`, a line each; empty where nothing is."""
    lines = []
    if found["collapsed_to_class"] is not None:
        lines.append(
            "Warning: the classifier has collapsed. Every test image is taken for class "
            f"{found['collapsed_to_class']}."
        )
    if "accuracy_on_255" in found:
        lines.append(f"Warning: {pixel_scale.hint(found['accuracy_on_255'])}")
    return lines


def _saliency_lines(values: dict) -> list[tuple[str, str]]:
    correlation, distance = values["jacobian_image_correlation"], values["linearised_robustness"]
    return [
        ("alignment alpha (median)", f"{values['alignment']:.3g}"),
        (
            "linearised robustness rho (median)",
            "infinite" if distance is None else f"{distance:.3g}",
        ),
        ("correlation of image and J, of the loss", f"{correlation['loss']:.2f}"),
        ("correlation of image and J, of the logit", f"{correlation['logit']:.2f}"),
        ("images whose gradient is exactly zero", f"{values['zero_gradients']:.2%}"),
        ("gradient entries exactly zero", f"{values['zero_gradient_entries']:.2%}"),
    ]
