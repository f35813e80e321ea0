import numpy as np
import pytest

from nearhit.encoder.repeats import Repeats


def vector(value: float) -> np.ndarray:
    return np.full(4, value, np.float32)


def test_text_is_found_again_and_another_is_not() -> None:
    repeats = Repeats(10_000)
    repeats.add("a question", vector(1))
    found = repeats.get("a question")
    assert found is not None
    assert found[0] == 1
    assert repeats.get("a question ") is None


def test_text_of_one_owner_is_not_found_by_another() -> None:
    repeats = Repeats(10_000)
    repeats.add("a question", vector(1), "alice")
    assert repeats.get("a question", "alice") is not None
    for other in ("", "bob", "alicea"):
        assert repeats.get("a question", other) is None


def test_vector_used_longest_ago_goes_first() -> None:
    repeats = Repeats(3 * (16 + 300))
    for text in "abc":
        repeats.add(text, vector(0))
    repeats.get("a")
    repeats.add("d", vector(0))
    assert [text for text in "abcd" if repeats.get(text) is not None] == ["a", "c", "d"]


def test_text_added_twice_counts_once() -> None:
    repeats = Repeats(3 * (16 + 300))
    for text in "aaabc":
        repeats.add(text, vector(0))
    assert len(repeats) == 3


def test_no_memory_holds_nothing() -> None:
    repeats = Repeats(0)
    repeats.add("a", vector(1))
    assert len(repeats) == 0


def test_half_a_surrogate_pair_is_a_text_like_any_other() -> None:
    repeats = Repeats(10_000)
    repeats.add("\ud800", vector(1))
    assert repeats.get("\ud800") is not None


def test_vector_that_is_held_cannot_be_changed() -> None:
    repeats, one = Repeats(10_000), vector(1)
    repeats.add("a", one)
    with pytest.raises(ValueError, match="read-only"):
        one[0] = 2
