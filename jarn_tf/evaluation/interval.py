"""The uncertainty of an accuracy that comes from a sample of images."""

from __future__ import annotations

from scipy import stats


def accuracy_interval(accuracy: float, examples: int) -> tuple[float, float]:
    """The 95 % interval (Wilson, 1927) of the accuracy on all images, from that on some.

    Args:
        accuracy: Share of images classified right, 0 to 1.
        examples: Number of images.

    Returns:
        Its ends, 0 to 1.
    """
    found = stats.binomtest(round(accuracy * examples), examples).proportion_ci(method="wilson")
    return float(found.low), float(found.high)


def interval_text(accuracy: float, examples: int) -> str:
    """The interval in percent, such as `[93.1, 97.8]`."""
    low, high = accuracy_interval(accuracy, examples)
    return f"[{100 * low:.1f}, {100 * high:.1f}]"
