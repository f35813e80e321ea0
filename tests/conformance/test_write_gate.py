"""Only a complete, successful answer is kept."""

import contextlib
import json
from typing import Any

import httpx
import pytest

from conformance.answers import CALLS, JSON, chunk, say
from conformance.asking import Case

CUT_CALL = [{**CALLS[0], "function": {"name": "look", "arguments": '{"at"'}}]
INCOMPLETE: dict[str, JSON] = {
    "cut at its length": {**say("It is"), "finish_reason": "length"},
    "filtered": {**say("It is"), "finish_reason": "content_filter"},
    "a tool call cut at its length": {
        **say(None, tool_calls=CUT_CALL),
        "finish_reason": "length",
    },
    "empty": say(""),
    "null": say(None),
    "without choices": {"choices": [], "extra": {"choices": []}},
}
forms = pytest.mark.parametrize("stream", [False, True], ids=["as a body", "as a stream"])


@forms
@pytest.mark.parametrize("plan", INCOMPLETE.values(), ids=INCOMPLETE.keys())
def test_answer_that_is_not_complete_is_not_kept(case: Case, plan: JSON, stream: bool) -> None:
    case.plan(**plan)
    assert case.is_never_repeated(case.body(stream=stream))


ERRORS = [
    *(400, 429, 500),
    *(
        pytest.param(status, marks=pytest.mark.conformance_full)
        for status in (401, 403, 404, 408, 409, 422, 502, 503, 529)
    ),
]


@forms
@pytest.mark.parametrize("status", ERRORS)
def test_error_is_not_kept(case: Case, status: int, stream: bool) -> None:
    case.plan(status=status)
    failed = case.send(case.body(stream=stream))
    assert failed.reply.status >= 400
    case.plan()
    case.settle()
    again = case.send(case.body(stream=stream))
    assert (again.reply.status, again.calls) == (200, 1)


RAW: dict[str, str] = {
    "an error in a successful body": json.dumps({"error": {"message": "overloaded", "code": 529}}),
    "no JSON": "<html>Bad gateway</html>",
    "half of a JSON": '{"id": "x", "object": "chat.completion", "choices": [{"index": 0,',
    "nothing at all": "",
    "no object": "[]",
}


@pytest.mark.parametrize("raw", RAW.values(), ids=RAW.keys())
def test_body_that_is_no_completion_is_not_kept(case: Case, raw: str) -> None:
    case.plan(raw=raw)
    case.send(case.body())
    case.plan()
    case.settle()
    again = case.send(case.body())
    assert (again.reply.status, again.calls) == (200, 1)


def test_body_that_breaks_off_is_not_kept(case: Case) -> None:
    case.plan(cut_after=0)
    case.send(case.body())
    case.plan()
    case.settle()
    assert case.send(case.body()).calls == 1


@pytest.mark.parametrize(
    "plan",
    [{"cut_after": 0}, {"cut_after": 3}, {"error_after": 0}, {"error_after": 3}],
    ids=["breaks off at once", "breaks off later", "fails at once", "fails later"],
)
def test_stream_that_does_not_end_is_not_kept(case: Case, plan: JSON) -> None:
    case.plan(**say("It is all in the best of order."), **plan)
    _send_whatever_comes(case, case.body(stream=True))
    case.plan()
    case.settle()
    again = case.send(case.body(stream=True))
    assert (again.calls, again.reply.ended) == (1, True)


def test_stream_without_a_finish_reason_is_not_kept(case: Case) -> None:
    case.plan(chunks=[chunk({"role": "assistant", "content": "Half"}), chunk({"content": " an"})])
    assert case.is_never_repeated(case.body(stream=True))


def test_half_stream_is_not_served_as_a_body(case: Case) -> None:
    case.plan(**say("It is all in the best of order."), cut_after=4)
    _send_whatever_comes(case, case.body(stream=True))
    case.plan()
    case.settle()
    assert case.send(case.body()).calls == 1


@pytest.mark.parametrize("plan", [{"pause_s": 0.02}, {"stall_after": 3}], ids=["goes on", "stalls"])
def test_stream_that_the_client_leaves_is_not_kept(case: Case, plan: JSON) -> None:
    case.plan(**say("word " * 100), **plan)
    with _opened(case) as got:
        next(got.iter_lines())
    case.plan()
    case.settle()
    again = case.send(case.body(stream=True))
    assert (again.calls, again.reply.ended) == (1, True)


def test_model_that_stalls_past_its_client_costs_the_next_no_answer(
    case: Case,
) -> None:
    case.plan(delay_s=1)
    with contextlib.suppress(httpx.TimeoutException):
        case.target.gateway.post(
            "/v1/chat/completions",
            json=case.body(),
            headers={"authorization": f"Bearer {case.target.key}"},
            timeout=0.3,
        )
    case.plan()
    assert case.send(case.body(user="a-second-client")).reply.status == 200


def test_answer_that_comes_after_a_failure_is_kept(case: Case) -> None:
    case.plan(status=500)
    case.send(case.body())
    case.plan()
    assert case.is_repeated(case.body())


def test_failure_does_not_take_the_place_of_a_kept_answer(case: Case) -> None:
    first = case.learn(case.body())
    case.plan(status=500)
    hit = case.send(case.body())
    assert hit.is_hit
    assert hit.reply.text == first.reply.text


def _send_whatever_comes(case: Case, body: JSON) -> None:
    with contextlib.suppress(httpx.HTTPError):
        case.send(body)


def _opened(case: Case) -> Any:
    return case.target.gateway.stream(
        "POST",
        "/v1/chat/completions",
        json=case.body(stream=True),
        headers={"authorization": f"Bearer {case.target.key}"},
    )
