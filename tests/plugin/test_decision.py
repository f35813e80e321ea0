"""The decision is a pure function of the candidates."""

from uuid import uuid4

import pytest

from nearhit.decision import Candidate, Hit, Miss, decide
from nearhit.store import Entry


def candidate(confidence: float, *, similarity: float = 0.9, veto: str | None = None) -> Candidate:
    entry = Entry(uuid4(), "s", "f", "q", "{}", "m", 1, 2, 0, "")
    return Candidate(entry, similarity, confidence, veto)


def test_decide_without_candidates_is_a_miss() -> None:
    assert decide([], 0.9) == Miss("nothing_near")


@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
def test_decide_takes_the_surest_in_any_order_and_not_the_nearest(order: tuple[int, int]) -> None:
    candidates = [candidate(0.95, similarity=0.98), candidate(0.99, similarity=0.91)]
    outcome = decide([candidates[i] for i in order], 0.9)
    assert outcome == Hit(candidates[1].entry, "semantic", 0.91, 0.99)


def test_decide_at_the_threshold_is_a_hit() -> None:
    assert isinstance(decide([candidate(0.9)], 0.9), Hit)


def test_decide_below_the_threshold_is_a_miss_that_says_how_sure() -> None:
    outcome = decide([candidate(0.5), candidate(0.89, similarity=0.8)], 0.9)
    assert outcome == Miss("below_threshold", 0.8, 0.89)


def test_decide_with_a_vetoed_candidate_serves_the_next_that_is_sure() -> None:
    candidates = [candidate(0.99, veto="numbers"), candidate(0.95)]
    assert decide(candidates, 0.9) == Hit(candidates[1].entry, "semantic", 0.9, 0.95)


def test_decide_with_only_vetoed_candidates_names_the_guard() -> None:
    candidates = [candidate(0.99, veto="numbers"), candidate(0.6)]
    assert decide(candidates, 0.9) == Miss("guard_numbers", 0.9, 0.99)


def test_decide_with_a_veto_that_changes_nothing_does_not_blame_the_guard() -> None:
    outcome = decide([candidate(0.7, veto="numbers"), candidate(0.6)], 0.9)
    assert outcome == Miss("below_threshold", 0.9, 0.7)
