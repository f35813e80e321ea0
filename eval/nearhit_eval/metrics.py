"""Decision quality as numbers. Pure numpy.

A probe is a question put to the cache. Its value is the confidence (or similarity) of the
candidate that would be served; it is right when that candidate answers the probe. Served are the
probes at or above a threshold; the wrong share is counted among the served, the recall among all
probes that have an answer in the store.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

WRONG_SHARES: Final = (0.01, 0.02, 0.05)
_Z: Final = 1.959964  # of a two-sided interval of 95 %

Values = NDArray[np.float64]
Flags = NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Point:
    """One threshold of a sweep.

    Attributes:
        threshold: probes at or above it are served; infinite if none can be.
        recall: served rightly, of all that must be served.
    """

    threshold: float
    recall: float


def recall_at_wrong(values: Values, right: Flags, must_hit: int, share: float) -> Point:
    """Return the point of largest recall at which at most `share` of the served is wrong.

    Args:
        values: float64 (n,), value of each probe's best candidate; -inf where there is none.
        right: bool (n,), whether that candidate answers the probe.
        must_hit: how many probes have an answer in the store.
        share: largest share of wrong answers among the served.
    """
    order = np.argsort(-values, kind="stable")
    ranked, good = values[order], np.cumsum(right[order])
    served = np.arange(1, len(ranked) + 1)
    last = np.append(ranked[1:] != ranked[:-1], True) if len(ranked) else np.zeros(0, bool)
    allowed = last & np.isfinite(ranked) & (served - good <= share * served)
    if not allowed.any() or not must_hit:
        return Point(math.inf, 0.0)
    best = np.flatnonzero(allowed)[np.argmax(good[allowed])]
    return Point(float(ranked[best]), float(good[best] / must_hit))


def auc(values: Values, right: Flags) -> float:
    """Chance that a right candidate is above a wrong one, ties counted half; NaN if one is absent.

    Probes without a candidate count as wrong ones of the lowest value.
    """
    good, bad = values[right], np.sort(values[~right])
    if not len(good) or not len(bad):
        return math.nan
    below = np.searchsorted(bad, good, "left") + np.searchsorted(bad, good, "right")
    return float(below.mean() / (2 * len(bad)))


def wilson(count: int, of: int) -> tuple[float, float]:
    """Return the 95 % interval of a share.

    Source: E. B. Wilson, J. Am. Stat. Assoc. 22 (1927) 209.
    """
    if not of:
        return 0.0, 1.0
    share = count / of
    middle = share + _Z**2 / (2 * of)
    half = _Z * math.sqrt(share * (1 - share) / of + _Z**2 / (4 * of**2))
    scale = 1 + _Z**2 / of
    return max(0.0, (middle - half) / scale), min(1.0, (middle + half) / scale)


@dataclass(frozen=True, slots=True)
class Calibration:
    """How far stated confidences are from what happened.

    Attributes:
        ece: expected calibration error: mean over bins of |stated - happened|, by their size.
        bins: stated mean, share right, count of each bin that is not empty.
    """

    ece: float
    bins: tuple[tuple[float, float, int], ...]


def calibration(confidences: Values, right: Flags, bins: int = 10) -> Calibration:
    """Compare stated confidences with the share that was right.

    Source: Guo et al., On Calibration of Modern Neural Networks, ICML 2017, section 2.
    """
    known = np.isfinite(confidences)
    stated, happened = confidences[known], right[known]
    place = np.minimum((stated * bins).astype(int), bins - 1)
    found = tuple(
        (float(stated[place == b].mean()), float(happened[place == b].mean()), int(n))
        for b in range(bins)
        if (n := (place == b).sum())
    )
    total = sum(count for _, _, count in found)
    error = sum(abs(said - was) * count for said, was, count in found)
    return Calibration(error / total if total else math.nan, found)


def curve(values: Values, right: Flags, must_hit: int, points: int = 60) -> list[dict[str, float]]:
    """Precision and recall at thresholds spread over the served probes, highest first."""
    order = np.argsort(-values, kind="stable")
    ranked, good = values[order], np.cumsum(right[order])
    ends = np.flatnonzero(np.append(ranked[1:] != ranked[:-1], True) & np.isfinite(ranked))
    if not len(ends):
        return []
    chosen = np.unique(ends[np.linspace(0, len(ends) - 1, min(points, len(ends))).astype(int)])
    return [
        {
            "threshold": float(ranked[end]),
            "precision": float(good[end] / (end + 1)),
            "recall": float(good[end] / must_hit) if must_hit else 0.0,
            "served": int(end + 1),
        }
        for end in chosen
    ]


def area(points: Sequence[dict[str, float]]) -> float:
    """Area under precision over recall, by trapezoids, from recall 0 to the largest reached."""
    recall = [0.0, *(point["recall"] for point in points)]
    precision = [points[0]["precision"] if points else 0.0, *(p["precision"] for p in points)]
    return float(np.trapezoid(precision, recall))


def summary(values: Values, right: Flags, must_hit: int, retrievable: int) -> dict[str, Any]:
    """Everything about one set that does not need the threshold in force."""
    points = {str(share): recall_at_wrong(values, right, must_hit, share) for share in WRONG_SHARES}
    swept = curve(values, right, must_hit)
    return {
        "probes": len(values),
        "n_must_hit": must_hit,
        "retrievable": retrievable / must_hit if must_hit else math.nan,
        "recall_at_wrong": {share: point.recall for share, point in points.items()},
        "threshold_at_wrong": {share: point.threshold for share, point in points.items()},
        "auc": auc(values, right),
        "curve": swept,
        "curve_area": area(swept),
    }


def at_threshold(values: Values, right: Flags, must_hit: int, threshold: float) -> dict[str, Any]:
    """What is served at one threshold, and how much of it is wrong."""
    served = values >= threshold
    wrong = int((served & ~right).sum())
    count = int(served.sum())
    return {
        "threshold": threshold,
        "served": count,
        "wrong": wrong,
        "wrong_share": wrong / count if count else 0.0,
        "wilson": list(wilson(wrong, count)),
        "recall": int((served & right).sum()) / must_hit if must_hit else 0.0,
    }
