from hypothesis import given
from hypothesis import strategies as st

from nearhit.encoder.batching import MAX_TEXTS, MAX_TOKENS, MIN_LIKENESS, choose_batch


@given(st.lists(st.integers(1, 256), max_size=40))
def test_batch_keeps_its_bounds_and_never_skips_the_first(lengths: list[int]) -> None:
    chosen = choose_batch(lengths)
    assert chosen == sorted(set(chosen))
    assert chosen[:1] == ([0] if lengths else [])
    assert len(chosen) <= MAX_TEXTS
    taken = [lengths[index] for index in chosen]
    if len(taken) > 1:
        assert max(taken) * len(taken) <= MAX_TOKENS
        assert min(taken) >= MIN_LIKENESS * max(taken)


@given(st.lists(st.integers(1, 256), min_size=1, max_size=40))
def test_taking_batch_after_batch_reaches_every_text(lengths: list[int]) -> None:
    waiting, batches = list(lengths), 0
    while waiting:
        chosen = set(choose_batch(waiting))
        waiting = [length for index, length in enumerate(waiting) if index not in chosen]
        batches += 1
    assert batches <= len(lengths)


def test_batch_takes_like_lengths_and_leaves_the_others() -> None:
    assert choose_batch([10, 50, 12, 9, 11, 8]) == [0, 2, 4]
    assert choose_batch([10, 50, 10, 9, 11]) == [0, 2, 3, 4]


def test_long_text_goes_alone() -> None:
    assert choose_batch([256, 256]) == [0]


def test_batch_of_short_texts_stops_at_the_bound() -> None:
    assert choose_batch([8] * 20) == list(range(MAX_TEXTS))
