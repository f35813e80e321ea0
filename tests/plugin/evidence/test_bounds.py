"""What labels prove, beside the exact figures and in simulated labelling."""

import random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nearhit.evidence.bounds import Errors, fewest_labels, interval, threshold_for, wrong_share

scipy_stats = pytest.importorskip("scipy.stats", reason="the figures to compare with are scipy's")

shares = st.floats(0, 1)
small = st.floats(0, 0.4)


@given(st.just(0.0) | st.floats(0.01, 500), st.floats(0, 2000))
def test_interval_is_that_of_clopper_and_pearson(count: float, others: float) -> None:
    of = count + others + 1e-3
    low, high = interval(count, of)
    exact_low = scipy_stats.beta.ppf(0.025, count, of - count + 1) if count > 0 else 0.0
    exact_high = scipy_stats.beta.ppf(0.975, count + 1, of - count)
    assert low == pytest.approx(exact_low, abs=1e-6)
    assert high == pytest.approx(exact_high, abs=1e-6)


@given(shares, small, small)
def test_correction_for_the_judge_undoes_what_the_judge_adds(
    wrong: float, passed: float, blamed: float
) -> None:
    errors = Errors(passed, blamed)
    assert errors.true(errors.said(wrong)) == pytest.approx(wrong, abs=1e-9)


@given(st.lists(st.booleans(), min_size=1, max_size=60), st.floats(0.05, 1))
def test_faded_labels_count_for_less_and_widen_the_interval(wrong: list[bool], fade: float) -> None:
    fresh = wrong_share(wrong)
    faded = wrong_share(wrong, [fade] * len(wrong))
    assert faded.value == pytest.approx(fresh.value)
    assert faded.labels == pytest.approx(fade * len(wrong))
    assert faded.low <= fresh.low + 1e-9
    assert faded.high >= fresh.high - 1e-9


def test_no_label_proves_nothing() -> None:
    share = wrong_share([])
    assert (share.low, share.high, share.labels) == (0.0, 1.0, 0.0)


@pytest.mark.parametrize(("wrong", "passed", "blamed"), [(0.01, 0, 0), (0.03, 0.2, 0.02)])
def test_interval_holds_the_true_share_in_at_least_93_of_100_labellings(
    wrong: float, passed: float, blamed: float
) -> None:
    errors = Errors(passed, blamed)
    held = 0
    for seed in range(100):
        rng = random.Random(seed)
        said = [rng.random() < errors.said(wrong) for _ in range(400)]
        share = wrong_share(said, errors=errors)
        held += share.low <= wrong <= share.high
    assert held >= 93


def test_threshold_is_proven_by_the_fewest_labels_that_can_and_by_none_fewer() -> None:
    need = fewest_labels(0.99)
    sure, right = np.full(need, 0.9), np.full(need, True)
    assert threshold_for(sure, right, 0.99) == 0.9
    assert threshold_for(sure[1:], right[1:], 0.99) is None
