"""What the words of two questions say."""

import math
from difflib import SequenceMatcher

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nearhit.verifier.signals import NAMES, signals

TEXTS = st.one_of(st.text(), st.lists(st.sampled_from(["a", "b", "c", "d", "e"])).map(" ".join))


@given(TEXTS, TEXTS)
def test_signals_are_finite_and_the_same_for_both_orders(one: str, other: str) -> None:
    told = signals(one, other)
    assert told == pytest.approx(signals(other, one))
    assert len(told) == len(NAMES)
    overlap, two_words, length, moved = told
    assert 0 <= overlap <= 1
    assert two_words in (0, 1)
    assert math.log(3) <= length <= math.log(200)
    assert 0 <= moved <= overlap


def test_equal_words_overlap_wholly_and_move_where_their_order_differs() -> None:
    assert signals("can A sue B", "Can a sue b?")[0] == 1
    assert signals("can A sue B", "can A sue B")[3] == 0
    assert signals("can A sue B", "can B sue A")[3] == pytest.approx(0.5)


def test_one_word_for_another_is_not_two() -> None:
    assert signals("enable it", "disable it")[1] == 0
    assert signals("enable it now", "disable it later")[1] == 1


@given(
    st.lists(st.sampled_from("abcd"), max_size=12), st.lists(st.sampled_from("abcd"), max_size=12)
)
def test_moved_is_never_more_than_what_matching_blocks_leave(
    one: list[str], other: list[str]
) -> None:
    both = {*one} & {*other}
    kept, kept_too = ([word for word in some if word in both] for some in (one, other))
    blocks = SequenceMatcher(None, kept, kept_too, autojunk=False).ratio() if kept else 1.0
    overlap, _, _, moved = signals(" ".join(one), " ".join(other))
    assert moved <= (1 - blocks) * overlap + 1e-9
