"""Identical questions that are asked at once are one question to the model."""

from concurrent.futures import ThreadPoolExecutor

import pytest

from conformance.answers import JSON, say
from conformance.asking import Case, Seen

SLOW = {**say("It took its time."), "delay_s": 0.4}


def at_once(case: Case, *bodies: JSON, keys: tuple[str | None, ...] = ()) -> list[Seen]:
    """Send requests at the same moment; the calls of each are not told apart."""
    with ThreadPoolExecutor(len(bodies)) as pool:
        sent = zip(bodies, keys or (None,) * len(bodies), strict=True)
        waiting = [pool.submit(case.send, body, key=key) for body, key in sent]
        return [seen.result() for seen in waiting]


@pytest.mark.parametrize("count", [2, 8], ids=["two", "eight"])
def test_identical_questions_at_once_call_the_model_once(case: Case, count: int) -> None:
    case.plan(**SLOW)
    seen = at_once(case, *[case.body()] * count)
    assert case.calls == 1
    assert {one.reply.text for one in seen} == {"It took its time."}


def test_body_and_stream_at_once_call_the_model_once(case: Case) -> None:
    case.plan(**SLOW)
    seen = at_once(case, case.body(), case.body(stream=True))
    assert case.calls == 1
    assert {one.reply.text for one in seen} == {"It took its time."}


def test_streams_at_once_call_the_model_once(case: Case) -> None:
    case.plan(**SLOW)
    seen = at_once(case, case.body(stream=True), case.body(stream=True))
    assert case.calls == 1
    assert all(one.reply.ended for one in seen)


def test_questions_at_once_that_differ_in_a_field_are_two(case: Case) -> None:
    case.plan(**SLOW)
    at_once(case, case.body(seed=1), case.body(seed=2))
    assert case.calls == 2


def test_identical_questions_of_two_callers_at_once_are_two(case: Case) -> None:
    if case.target.other_key is None:
        pytest.skip("needs a second key: --gateway-other-key")
    case.plan(**SLOW)
    at_once(case, case.body(), case.body(), keys=(None, case.target.other_key))
    assert case.calls == 2


def test_question_whose_twin_fails_is_asked_for_itself(case: Case) -> None:
    case.plan(status=500, delay_s=0.4)
    at_once(case, case.body(), case.body())
    assert case.calls == 2


def test_question_whose_twin_was_cut_at_its_length_is_asked_for_itself(case: Case) -> None:
    case.plan(**{**SLOW, "finish_reason": "length"})
    at_once(case, case.body(), case.body())
    assert case.calls == 2
