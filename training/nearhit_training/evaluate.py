"""Decision quality: how many true duplicates are served while few of the served are wrong.

``recall_at(wrong)`` is the largest share of positives at or above a threshold at which at most
``wrong`` of all pairs at or above it are negatives. One threshold holds for all pairs given.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

WRONG = (0.01, 0.02, 0.05, 0.1)
Values = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Quality:
    """How well values separate labels.

    Attributes:
        recall: share of positives served, by the largest wrong share allowed.
        auc: chance that a positive is above a negative; ties count half.
        margin: mean of positives less mean of negatives.
        separation: d', the margin in units of the pooled standard deviation.
        positives: number of positives.
        negatives: number of negatives.
    """

    recall: dict[float, float]
    auc: float
    margin: float
    separation: float
    positives: int
    negatives: int


def measure(values: Sequence[float] | Values, labels: Sequence[int] | NDArray[np.int64]) -> Quality:
    """Measure one set, or several pooled."""
    given, truth = np.asarray(values, np.float64), np.asarray(labels) == 1
    same, other = given[truth], given[~truth]
    order = np.sort(other)
    below = np.searchsorted(order, same, "left") + np.searchsorted(order, same, "right")
    spread = float(np.sqrt((same.var() + other.var()) / 2)) or 1.0
    margin = float(same.mean() - other.mean())
    return Quality(
        recall={wrong: recall_at(given, truth, wrong) for wrong in WRONG},
        auc=float(below.mean() / 2 / len(other)),
        margin=margin,
        separation=margin / spread,
        positives=int(truth.sum()),
        negatives=int((~truth).sum()),
    )


def recall_at(values: Values, truth: NDArray[np.bool_], wrong: float) -> float:
    """Return the share of positives served at the best threshold; equal values go together."""
    threshold = threshold_at(values, truth, wrong)
    return float((values[truth] >= threshold).mean())


def threshold_at(values: Values, truth: NDArray[np.bool_], wrong: float) -> float:
    """Return the lowest threshold with at most that wrong share at or above it; inf if none."""
    order = np.argsort(-values, kind="stable")
    ranked, good = values[order], np.cumsum(truth[order])
    served = np.arange(1, len(ranked) + 1)
    last = np.append(ranked[1:] != ranked[:-1], True)
    allowed = last & ((served - good) <= wrong * served)
    return float(ranked[np.flatnonzero(allowed)[-1]]) if allowed.any() else float("inf")


def line(name: str, quality: Quality) -> str:
    """Format one row of a table."""
    recall = " ".join(f"{quality.recall[wrong]:.3f}" for wrong in WRONG)
    return f"{name:<28} {recall}  auc {quality.auc:.3f}  d' {quality.separation:5.2f}"
