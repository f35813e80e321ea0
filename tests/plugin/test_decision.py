"""The decision is a pure function of the candidates."""

from uuid import uuid4

import pytest

from nearhit.decision import Hit, Miss, decide
from nearhit.store import Entry, Neighbour


def near(similarity: float) -> Neighbour:
    return Neighbour(Entry(uuid4(), "s", "f", "q", "{}", "m", 1, 2, 0, ""), similarity)


def test_decide_without_candidates_is_a_miss() -> None:
    assert decide([], 0.9) == Miss("nothing_near")


@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
def test_decide_takes_the_most_similar_in_any_order(order: tuple[int, int]) -> None:
    candidates = [near(0.95), near(0.99)]
    outcome = decide([candidates[i] for i in order], 0.9)
    assert outcome == Hit(candidates[1].entry, "semantic", 0.99)


def test_decide_at_the_threshold_is_a_hit() -> None:
    assert isinstance(decide([near(0.9)], 0.9), Hit)


def test_decide_below_the_threshold_is_a_miss_that_says_how_near() -> None:
    assert decide([near(0.5), near(0.89)], 0.9) == Miss("below_threshold", 0.89)
