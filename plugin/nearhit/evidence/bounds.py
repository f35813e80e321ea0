"""What a number of labels proves about the share of wrong answers. Pure.

A judge errs too: `Errors` says how often, and every figure here is about the true share, not about
what the judge said.

Source: Clopper and Pearson, Biometrika 26 (1934) 404 (interval); Rogan and Gladen, American
Journal of Epidemiology 107 (1978) 71 (correction for the judge); Angelopoulos et al., Learn then
Test, arXiv 2110.01052, section 2.3 (fixed sequence testing).
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

DELTA: Final = 0.05  # chance that a bound or threshold does not hold
_STARTS: Final = 3  # sequences of tests, so that one wrong label at the top does not end it all
_FEWEST: Final = 50  # served answers that say anything at all
_PARTS: Final = 40  # thresholds for which the number of labels that are wanted is estimated
_MOST_NEEDED: Final = 50_000  # labels that anyone would give

Values = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Errors:
    """How often a judge errs.

    Attributes:
        wrong_called_right: share of the wrong answers that it takes for right.
        right_called_wrong: share of the right answers that it takes for wrong.
    """

    wrong_called_right: float = 0.0
    right_called_wrong: float = 0.0

    def said(self, wrong: float) -> float:
        """Return the share that it calls wrong where a share `wrong` is."""
        return wrong * (1 - self.wrong_called_right) + (1 - wrong) * self.right_called_wrong

    def true(self, said: float) -> float:
        """Return the share that is wrong where it calls a share `said` wrong, in [0, 1]."""
        sees = 1 - self.wrong_called_right - self.right_called_wrong
        return min(1.0, max(0.0, (said - self.right_called_wrong) / sees))


@dataclass(frozen=True, slots=True)
class Share:
    """An estimated share with its 95 % interval.

    Attributes:
        value: the estimate.
        low: lower bound.
        high: upper bound.
        labels: how many labels it rests on, faded ones counted for less.
    """

    value: float
    low: float
    high: float
    labels: float


def wrong_share(
    wrong: Sequence[bool], weights: Sequence[float] | None = None, errors: Errors | None = None
) -> Share:
    """Estimate the share of wrong answers from labels of a random sample.

    Args:
        wrong: what the judge, or a person, said of each answer.
        weights: how much each counts, at most 1, less the older it is; None: each as one label.
            Their sum stands for the number of labels, which is fewer than they are worth.
        errors: of the judge; None: it does not err.
    """
    errors = errors or Errors()
    counted = list(weights) if weights is not None else [1.0] * len(wrong)
    total = sum(counted)
    if total <= 0:
        return Share(0.0, 0.0, 1.0, 0.0)
    count = sum(weight for weight, is_wrong in zip(counted, wrong, strict=True) if is_wrong)
    low, high = interval(count, total)
    return Share(errors.true(count / total), errors.true(low), errors.true(high), total)


def interval(count: float, of: float, delta: float = DELTA) -> tuple[float, float]:
    """Return the Clopper-Pearson interval of a share; counts need not be whole."""
    low = 0.0 if count <= 0 else _beta_quantile(count, of - count + 1, delta / 2)
    high = 1.0 if count >= of else _beta_quantile(count + 1, of - count, 1 - delta / 2)
    return low, high


def threshold_for(
    confidence: Values, right: NDArray[np.bool_], target: float, delta: float = DELTA
) -> float | None:
    """Return the lowest threshold that keeps a precision with confidence 1 - delta; None if none.

    Args:
        confidence: of each probe's surest candidate.
        right: whether that candidate answers the probe.
        target: share of the served that must be right.
        delta: chance that the threshold does not keep it.
    """
    order = np.argsort(-confidence, kind="stable")
    ranked, wrong = confidence[order], np.cumsum(~right[order])
    ends = np.flatnonzero(np.append(ranked[1:] != ranked[:-1], True)) + 1
    level = delta / _STARTS
    found = None
    for start in range(_STARTS):
        for served in ends[ends >= fewest_labels(target, delta) * 2**start]:
            if binomial_cdf(int(wrong[served - 1]), int(served), 1 - target) > level:
                break
            threshold = float(ranked[served - 1])
            found = threshold if found is None else min(found, threshold)
    return found


def fewest_labels(target: float, delta: float = DELTA) -> int:
    """Return how many labels, none of them wrong, prove a precision by `threshold_for`."""
    return math.ceil(math.log(delta / _STARTS) / math.log(target))


def labels_needed(
    confidence: Values, right: NDArray[np.bool_], target: float, delta: float = DELTA
) -> int | None:
    """Return about how many more labels prove some threshold, if shares stay as they are.

    None: at no threshold are few enough wrong. As many more as are wanted at the threshold where
    the fewest are, by the share of all labels that lies above it.
    """
    if not len(confidence):
        return None
    order = np.argsort(-confidence, kind="stable")
    wrong = np.cumsum(~right[order])
    level = delta / _STARTS
    best: int | None = None
    for served in sorted({math.ceil(len(order) * part / _PARTS) for part in range(1, _PARTS + 1)}):
        share = (wrong[served - 1] + (0 if served > _FEWEST else 1)) / served
        if share >= 1 - target:
            continue
        need = fewest_labels(target, delta)
        while need < _MOST_NEEDED and binomial_cdf(int(share * need), need, 1 - target) > level:
            need = math.ceil(1.1 * need)
        if need >= _MOST_NEEDED:
            continue
        more = math.ceil(max(0, need - served) * len(order) / served)
        best = more if best is None else min(best, more)
    return best or None


def choose_threshold(
    confidence: Values, right: NDArray[np.bool_], target: float
) -> tuple[float, bool] | None:
    """Return a threshold that keeps a precision, and whether it is proven; None if none is.

    Where too few are labelled to prove one, it is the lowest at which the share of wrong answers,
    one more assumed than were seen, is small enough.
    """
    proven = threshold_for(confidence, right, target)
    if proven is not None:
        return proven, True
    order = np.argsort(-confidence, kind="stable")
    ranked, wrong = confidence[order], np.cumsum(~right[order])
    ends = np.flatnonzero(np.append(ranked[1:] != ranked[:-1], True))
    kept = [
        end for end in ends if end + 1 >= _FEWEST and wrong[end] + 1 <= (1 - target) * (end + 1)
    ]
    return (float(ranked[kept[-1]]), False) if kept else None


def binomial_cdf(count: int, of: int, share: float) -> float:
    """Return the chance of at most `count` events in `of` trials."""
    terms = (
        math.lgamma(of + 1)
        - math.lgamma(k + 1)
        - math.lgamma(of - k + 1)
        + k * math.log(share)
        + (of - k) * math.log1p(-share)
        for k in range(count + 1)
    )
    return min(1.0, sum(map(math.exp, terms)))


def _beta_quantile(a: float, b: float, chance: float) -> float:
    """Invert the incomplete beta function by bisection."""
    low, high = 0.0, 1.0
    for _ in range(60):
        middle = (low + high) / 2
        if _beta_cdf(a, b, middle) < chance:
            low = middle
        else:
            high = middle
    return (low + high) / 2


def _beta_cdf(a: float, b: float, x: float) -> float:
    """Return the regularised incomplete beta function.

    Source: NIST Digital Library of Mathematical Functions, 8.17.22 (continued fraction) and 8.17.4
    (symmetry), evaluated from the end.
    """
    if x <= 0 or x >= 1:
        return float(x >= 1)
    if x > (a + 1) / (a + b + 2):
        return 1 - _beta_cdf(b, a, 1 - x)
    fraction = 1.0
    for step in range(200, 0, -1):
        m = step // 2
        if step % 2:
            factor = -(a + m) * (a + b + m) / ((a + 2 * m) * (a + 2 * m + 1))
        else:
            factor = m * (b - m) / ((a + 2 * m - 1) * (a + 2 * m))
        fraction = 1 + factor * x / fraction
    front = math.lgamma(a + b) - math.lgamma(a) - math.lgamma(b)
    front += a * math.log(x) + b * math.log1p(-x) - math.log(a)
    return math.exp(front) / fraction
