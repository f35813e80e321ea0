"""From a logit to a probability, and to a threshold."""

from math import exp

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nearhit.errors import ConfigError, EncoderError
from nearhit.verifier.calibration import Calibration

CALIBRATION = Calibration(0.5, 2.0, -1.0, 0.4, {0.9: 0.6, 0.95: 0.7, 0.99: 0.85})
NUMBERS = st.floats(-1e6, 1e6)


@given(NUMBERS, st.floats(-1, 1))
def test_confidence_is_a_probability_for_any_logit(logit: float, similarity: float) -> None:
    assert 0 <= CALIBRATION.confidence(logit, similarity, "one", "other") <= 1


@given(NUMBERS, NUMBERS, st.floats(-1, 1))
def test_confidence_rises_with_the_logit(one: float, two: float, similarity: float) -> None:
    low, high = sorted((one, two))
    told = [CALIBRATION.confidence(logit, similarity, "a b", "b") for logit in (low, high)]
    assert told == sorted(told)


@pytest.mark.parametrize(("target", "threshold"), [(0.8, 0.6), (0.9, 0.6), (0.97, 0.85)])
def test_threshold_is_the_lowest_that_keeps_the_target(target: float, threshold: float) -> None:
    assert CALIBRATION.threshold(target) == threshold


def test_target_that_no_threshold_is_known_to_keep_is_an_error() -> None:
    with pytest.raises(ConfigError, match=r"target_precision must be at most 0.99"):
        CALIBRATION.threshold(0.999)


def test_calibration_is_read_from_a_manifest() -> None:
    document = {"logit": 1, "similarity": 0, "shift": 2, "floor": 0.5, "thresholds": {"0.9": 0.5}}
    assert Calibration.read(document, "v") == Calibration(1, 0, 2, 0.5, {0.9: 0.5})


@pytest.mark.parametrize("broken", [{}, {"logit": 1}, {"thresholds": 3}])
def test_calibration_with_a_fault_names_its_file(broken: dict[str, object]) -> None:
    with pytest.raises(EncoderError, match=r"^v calibration must hold"):
        Calibration.read(broken, "v")


def test_floor_is_that_of_the_highest_target_whose_threshold_a_confidence_reaches() -> None:
    document: dict[str, object] = {"logit": 1, "similarity": 0, "shift": 2, "floor": 0.5}
    document |= {"thresholds": {"0.9": 0.6, "0.95": 0.8, "0.99": 0.9}}
    document |= {"floors": {"0.9": 0.5, "0.99": 0.7}}
    read = Calibration.read(document, "v")
    found = [read.floor_at(confidence) for confidence in (0.0, 0.6, 0.8, 0.9, 1.0)]
    assert found == [0.5, 0.5, 0.5, 0.7, 0.7]


def test_what_the_words_say_is_weighed_with_the_logit() -> None:
    document = {"logit": 1, "similarity": 0, "shift": 0, "floor": 0.5, "thresholds": {}}
    weights = {"overlap": -2.0, "two_words": 0.0, "length": 0.0, "moved": 0.0}
    read = Calibration.read({**document, "signals": weights}, "v")
    assert read.confidence(2.0, 0.9, "enable it now", "enable it now") == pytest.approx(0.5)
    assert read.confidence(2.0, 0.9, "switch on", "enable it now") == pytest.approx(
        1 / (1 + exp(-2))
    )


def test_calibration_that_lacks_the_weight_of_a_signal_is_refused() -> None:
    document = {"logit": 1, "similarity": 0, "shift": 0, "floor": 0.5, "thresholds": {}}
    with pytest.raises(EncoderError, match=r"^v calibration must hold"):
        Calibration.read({**document, "signals": {"overlap": 1.0}}, "v")
