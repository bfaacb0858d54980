"""Accuracy over the radius of attacks: few strong lines, their names at their ends."""

from __future__ import annotations

import io
import os

import matplotlib
import matplotlib.axes
import matplotlib.figure
import numpy as np

from jarn_tf.evaluation.interval import accuracy_interval
from jarn_tf.evaluation.masking.measurements import PGD

#: Colours that are told apart with any colour vision (Okabe & Ito).
COLORS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00", "#000000")
_FAINT = "0.75"
#: Width of a number under the axis of a `verdict_figure`, as a share of it.
_LABEL = 0.11


def label_ends(axis: matplotlib.axes.Axes, ends: dict[str, tuple[float, float, str]]) -> None:
    """Writes names on the right of a panel of accuracies in percent, apart from one another.

    Args:
        axis: The panel.
        ends: Name to the last point of its line, and the line's colour.
    """
    gap = 6 * max(name.count("\n") + 1 for name in ends)  # a line of text is 6 percent points high
    lowest = -gap
    heights = {}
    for name, (_, accuracy, _) in sorted(ends.items(), key=lambda end: end[1][1]):
        heights[name] = lowest = max(accuracy, lowest + gap)
    too_high = max(0.0, lowest - 100)
    right = axis.get_xlim()[1]
    for name, (radius, accuracy, color) in ends.items():
        axis.annotate(
            name,
            (radius, accuracy),
            (1.05, heights[name] - too_high),
            xycoords="data",
            textcoords=axis.get_yaxis_transform(),
            color=color,
            fontsize=9,
            fontweight="bold",
            va="center",
            arrowprops={"arrowstyle": "-", "color": color, "linewidth": 0.7, "relpos": (0, 0.5)},
            annotation_clip=False,
        )
    axis.set_xlim(right=right)


@matplotlib.rc_context({"text.parse_math": False})  # names of datasets may hold dollar signs
def verdict_figure(
    path: str | os.PathLike, accuracies: dict[str, dict[float, float]], epsilon: float, title: str
) -> None:
    """Draws accuracy over epsilon into a PNG: PGD, and what leaves least at epsilon.

    Args:
        path: The file to write.
        accuracies: As in `Verdict.accuracies`; an attack at one radius alone is a point.
        epsilon: The radius that robustness is claimed for, marked by a vertical line.
        title: Line above the figure.
    """
    strongest = min(accuracies, key=lambda name: accuracies[name][epsilon])
    if accuracies[PGD][epsilon] == accuracies[strongest][epsilon]:
        strongest = PGD
    figure = matplotlib.figure.Figure((8.4, 4.8), dpi=110)
    axis = figure.subplots()
    axis.axvline(epsilon, color="0.5", linestyle=":", linewidth=1)
    ends = {}
    for name, curve in accuracies.items():
        radii, values = list(curve), [100 * value for value in curve.values()]
        if len(curve) == 2:  # clean, and one radius
            radii, values = radii[1:], values[1:]
        if name in (PGD, strongest):
            color = COLORS[0 if name == PGD else 1]
            axis.plot(radii, values, "o-", color=color, linewidth=2.6, markersize=5, zorder=3)
            label = f"{name}\n{100 * curve[epsilon]:.1f} % at {epsilon:.3g}"
            ends[label] = radii[-1], values[-1], color
        else:
            axis.plot(radii, values, ".-", color=_FAINT, linewidth=1, markersize=4)
    radii = sorted({radius for curve in accuracies.values() for radius in curve})
    _over_square_root(axis, radii, epsilon)
    label_ends(axis, ends)
    axis.set_title(title, fontsize=11, loc="left")
    others = [name for name in accuracies if name not in (PGD, strongest)]
    figure.text(0.02, 0.02, f"Grey: {'; '.join(others)}.", fontsize=8, color="0.4", wrap=True)
    figure.tight_layout(rect=(0, 0.07, 1, 1))
    figure.savefig(path)


def _over_square_root(axis: matplotlib.axes.Axes, radii: list[float], epsilon: float) -> None:
    """Small radii matter as much as large ones; 0, epsilon, 1 and what fits are named."""
    named = [0.0, epsilon, 1.0]
    for radius in reversed(radii):
        if all(abs(np.sqrt(radius) - np.sqrt(other)) > _LABEL for other in named):
            named.append(radius)
    axis.set_xscale("function", functions=(np.sqrt, np.square))
    axis.set_xticks(radii, [f"{radius:.3g}" if radius in named else "" for radius in radii])
    axis.set_xlim(0, 1.02)
    axis.set_xlabel("epsilon (L-infinity, pixels in [0, 1])")
    axis.set_ylabel("accuracy [%]")
    axis.set_ylim(-3, 103)
    axis.grid(alpha=0.3)
    axis.spines[["top", "right"]].set_visible(False)


@matplotlib.rc_context({"text.parse_math": False})
def accuracy_chart(lines: dict[str, list[tuple[float, float, int]]], norm: str) -> bytes:
    """Draws accuracy over the radius with 95 % intervals, as SVG.

    Args:
        lines: Name of a line to its points: radius, accuracy (0 to 1), number of images. One
            without points is not drawn, but the others have their colours as if it was.
        norm: What the radius is measured in.
    """
    figure = matplotlib.figure.Figure((7.6, 3.6))
    axis = figure.subplots()
    ends = {}
    for number, (name, points) in enumerate(lines.items()):
        if not points:
            continue
        color = COLORS[number % len(COLORS)]
        radii, accuracies, _ = zip(*points)
        low, high = zip(*(accuracy_interval(accuracy, n) for _, accuracy, n in points))
        axis.fill_between(radii, *(100 * np.array(end) for end in (low, high)), color=color,
                          alpha=0.15, linewidth=0)  # fmt: skip
        axis.plot(radii, 100 * np.array(accuracies), "o-", color=color, linewidth=2.4)
        ends[name] = radii[-1], 100 * accuracies[-1], color
    axis.set_xlim(left=0)
    axis.set_ylim(-3, 103)
    axis.set_xlabel(f"{norm} radius (pixels in [0, 1])")
    axis.set_ylabel("accuracy [%]")
    axis.grid(alpha=0.3)
    axis.spines[["top", "right"]].set_visible(False)
    label_ends(axis, ends)
    figure.tight_layout()
    file = io.BytesIO()
    nothing = dict.fromkeys(("Creator", "Date", "Format", "Type"))  # so that it says no address
    figure.savefig(file, format="svg", metadata=nothing)
    return file.getvalue()
