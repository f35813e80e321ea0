"""What people read after a measurement: the worst mistakes, and each probe's value."""

from collections.abc import Iterable, Sequence
from typing import Any, Final

import numpy as np

from nearhit.guards import GUARDS
from nearhit_eval.metrics import Flags, Values
from nearhit_eval.observing import Observation, Seen

_MOST: Final = 20
_DECIMALS: Final = 5  # confidences crowd below 1: the shipped thresholds differ in the fourth


def probe_values(values: Values, right: Flags) -> list[list[float | int]]:
    """Return confidence and 1 or 0 for right or wrong of each probe that has a candidate.

    A probe counts as served from that threshold down; the surest come first.
    """
    known = np.flatnonzero(np.isfinite(values))
    order = known[np.argsort(-values[known], kind="stable")]
    return [[round(float(values[i]), _DECIMALS), int(right[i])] for i in order]


def worst(observations: Sequence[Observation]) -> list[dict[str, Any]]:
    """Return the surest of the wrong ones that no guard in force forbids."""
    wrong = []
    for one in observations:
        best = _surest(seen for seen in one.candidates if seen.veto is None)
        if best is not None and best.key != one.key:
            wrong.append((best, one))
    return _told(wrong)


def vetoed(observations: Sequence[Observation]) -> list[dict[str, Any]]:
    """Return the surest that a guard in force forbids, wrong ones and right ones alike."""
    forbidden = []
    for one in observations:
        best = _surest(one.candidates)
        if best is not None and best.veto is not None:
            forbidden.append((best, one))
    return _told(forbidden)


def _surest(candidates: Iterable[Seen]) -> Seen | None:
    return max(candidates, key=lambda seen: seen.confidence, default=None)


def _told(found: list[tuple[Seen, Observation]]) -> list[dict[str, Any]]:
    found.sort(key=lambda item: -item[0].confidence)
    return [
        {
            "confidence": seen.confidence,
            "similarity": seen.similarity,
            "stored": seen.text,
            "asked": one.text,
            "should_hit": one.key is not None,
            "is_right": seen.key == one.key,
            "veto": seen.veto,
            "guards": [name for name, guard in GUARDS.items() if guard(seen.text, one.text)],
        }
        for seen, one in found[:_MOST]
    ]
