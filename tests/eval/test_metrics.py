"""Decision quality as numbers: what is counted, and that it adds up."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nearhit_eval import metrics

INF = -math.inf


def arrays(values: list[float], right: list[int]) -> tuple[np.ndarray, np.ndarray]:
    return np.array(values, float), np.array(right, bool)


def test_recall_at_wrong_counts_wrong_among_the_served() -> None:
    values, right = arrays([0.9, 0.8, 0.7, 0.6], [1, 1, 0, 1])
    assert metrics.recall_at_wrong(values, right, 4, 0.0) == metrics.Point(0.8, 0.5)
    assert metrics.recall_at_wrong(values, right, 4, 0.25) == metrics.Point(0.6, 0.75)


def test_recall_at_wrong_serves_equal_values_together() -> None:
    values, right = arrays([0.9, 0.9, 0.5], [1, 0, 1])
    assert metrics.recall_at_wrong(values, right, 2, 0.1).recall == 0.0
    assert metrics.recall_at_wrong(values, right, 2, 0.34).recall == 1.0


def test_recall_at_wrong_never_serves_a_probe_without_a_candidate() -> None:
    values, right = arrays([0.9, INF, INF], [1, 0, 0])
    assert metrics.recall_at_wrong(values, right, 3, 1.0) == metrics.Point(0.9, 1 / 3)


@given(
    st.lists(st.tuples(st.floats(0, 1), st.booleans()), min_size=1, max_size=60),
    st.sampled_from([0.0, 0.01, 0.05, 0.3]),
)
def test_recall_at_wrong_keeps_its_word(rows: list[tuple[float, bool]], share: float) -> None:
    values, right = arrays([value for value, _ in rows], [is_right for _, is_right in rows])
    point = metrics.recall_at_wrong(values, right, len(rows), share)
    served = values >= point.threshold
    assert (served & ~right).sum() <= share * max(1, served.sum())
    assert point.recall == pytest.approx((served & right).sum() / len(rows))
    for threshold in values:
        other = values >= threshold
        if (other & ~right).sum() <= share * other.sum():
            assert (other & right).sum() <= (served & right).sum()


def test_auc_counts_ties_half() -> None:
    assert metrics.auc(*arrays([0.9, 0.5, 0.5, 0.1], [1, 1, 0, 0])) == 0.875
    assert math.isnan(metrics.auc(*arrays([0.9], [1])))


def test_wilson_interval_holds_the_share_and_is_wide_without_evidence() -> None:
    low, high = metrics.wilson(0, 100)
    assert (low, round(high, 4)) == (0.0, 0.037)
    assert metrics.wilson(0, 0) == (0.0, 1.0)


def test_calibration_error_is_the_distance_of_stated_and_happened() -> None:
    found = metrics.calibration(*arrays([0.95] * 10 + [0.05] * 10, [1] * 5 + [0] * 15))
    assert found.ece == pytest.approx((0.45 * 10 + 0.05 * 10) / 20)
    assert [count for _, _, count in found.bins] == [10, 10]


def test_curve_ends_with_everything_served() -> None:
    values, right = arrays([0.9, 0.8, 0.2, INF], [1, 0, 1, 0])
    points = metrics.curve(values, right, 2)
    assert points[0] == {"threshold": 0.9, "precision": 1.0, "recall": 0.5, "served": 1}
    assert points[-1]["served"] == 3
    assert metrics.area(points) == pytest.approx(0.5 + 0.5 * (2 / 3 + 0.5) / 2)
