"""A stored answer is the model's, field by field, whatever form it came in and goes out in.

It is held against what the same gateway sends of the same answer when the model has just given
it, so nothing is asked of a cache that its gateway does not do without one.
"""

from typing import Any

import pytest

from assembling import assembled, plain
from conformance.answers import ANSWERS, CHUNKINGS, JSON, say
from conformance.asking import Case, Seen

STREAM = {"stream": True, "stream_options": {"include_usage": True}}
LONG = say("A line of text that is told to nobody. " * 40)
answers = pytest.mark.parametrize("answer", ANSWERS.values(), ids=ANSWERS.keys())


def served(case: Case, answer: JSON, first: JSON, then: JSON) -> tuple[Seen, Seen]:
    """Return the answer as the gateway sends it from the model, and as it sends it stored."""
    fresh = case.target.case()
    for asked in (case, fresh):
        asked.plan(**answer)
    case.learn(case.body(**first))
    hit = case.send(case.body(**then))
    assert hit.is_hit
    return fresh.send(fresh.body(**then)), hit


def without_names(body: JSON) -> JSON:
    return {name: value for name, value in body.items() if name not in ("id", "created")}


def usage_of(seen: Seen) -> Any:
    return [chunk["usage"] for chunk in seen.reply.chunks if chunk.get("usage")]


def body_says_the_same(model: Seen, hit: Seen) -> None:
    """Whether two bodies have the same fields, but for the names of the one answer."""
    said, stored = without_names(model.reply.body), without_names(hit.reply.body)
    choices = [list(map(plain, body.pop("choices"))) for body in (said, stored)]
    assert choices[1] == choices[0]
    assert stored == said


def stream_says_the_same(model: Seen, hit: Seen, sent: list[JSON]) -> None:
    """Whether a stream adds up to what the model's does, or to the whole that the model sent."""
    got = assembled(hit.reply)
    assert got == assembled(model.reply) or got == sent
    assert hit.reply.ended
    [counted], [said] = usage_of(hit), usage_of(model)
    names = ("prompt_tokens", "completion_tokens", "total_tokens")
    assert [counted[name] for name in names] == [said[name] for name in names]
    for name in ("model", "system_fingerprint", "service_tier"):
        assert {chunk.get(name) for chunk in hit.reply.chunks} == {
            chunk.get(name) for chunk in model.reply.chunks
        }


def sent_by(answer: JSON) -> list[JSON]:
    """Return the choices of a plan."""
    one = {"index": 0, "finish_reason": "stop", **answer}
    choices = answer.get("choices") or [
        {name: one[name] for name in ("index", "message", "finish_reason")}
    ]
    return [plain(choice) for choice in choices]


@answers
def test_body_serves_body_with_every_field(case: Case, answer: JSON) -> None:
    body_says_the_same(*served(case, answer, {}, {}))


@answers
def test_stream_serves_stream_with_every_field(case: Case, answer: JSON) -> None:
    stream_says_the_same(*served(case, answer, STREAM, STREAM), sent_by(answer))


@answers
def test_body_serves_stream_with_every_field(case: Case, answer: JSON) -> None:
    stream_says_the_same(*served(case, answer, {}, STREAM), sent_by(answer))


@answers
def test_stream_serves_body_with_every_field(case: Case, answer: JSON) -> None:
    body_says_the_same(*served(case, answer, STREAM, {}))


@pytest.mark.parametrize(("chunks", "whole"), CHUNKINGS.values(), ids=CHUNKINGS.keys())
def test_stream_in_odd_chunks_is_put_together(case: Case, chunks: list[JSON], whole: str) -> None:
    case.plan(chunks=chunks)
    case.learn(case.body(**STREAM))
    hit = case.send(case.body(**STREAM))
    assert hit.is_hit
    [choice] = assembled(hit.reply)
    calls = choice["message"].get("tool_calls")
    assert (calls[0]["function"]["arguments"] if calls else choice["message"]["content"]) == whole


def stored_stream(case: Case, **options: Any) -> Seen:
    """Return a stored stream of a long answer, as it is served to the same request."""
    case.plan(**LONG)
    body = case.body(stream=True, **options)
    case.learn(body)
    hit = case.send(body)
    assert hit.is_hit
    return hit


def test_stored_stream_has_chunks_of_one_answer(case: Case) -> None:
    chunks = stored_stream(case).reply.chunks
    assert {chunk["object"] for chunk in chunks} == {"chat.completion.chunk"}
    assert len({(chunk["id"], chunk["created"], chunk["model"]) for chunk in chunks}) == 1


def test_stored_stream_opens_with_the_role_and_closes_with_the_finish_reason(case: Case) -> None:
    chunks = stored_stream(case).reply.chunks
    parts = [chunk["choices"][0] for chunk in chunks if chunk["choices"]]
    assert parts[0]["delta"]["role"] == "assistant"
    assert [part["finish_reason"] for part in parts if part.get("finish_reason")] == ["stop"]
    assert parts[-1]["finish_reason"] == "stop"


def test_stored_stream_of_a_long_answer_comes_in_pieces(case: Case) -> None:
    assert len(stored_stream(case).reply.chunks) > 10


def test_stored_stream_ends_with_done(case: Case) -> None:
    assert stored_stream(case).reply.ended


def test_stored_stream_has_its_usage_once_and_last_when_it_is_asked_for(case: Case) -> None:
    hit = stored_stream(case, stream_options={"include_usage": True})
    assert len(usage_of(hit)) == 1
    assert hit.reply.chunks[-1]["usage"]
    assert hit.reply.chunks[-1]["choices"] == []


def test_stored_stream_has_no_usage_when_nobody_asks_for_it(case: Case) -> None:
    assert usage_of(stored_stream(case)) == []


def test_stored_stream_with_usage_serves_one_without(case: Case) -> None:
    case.learn(case.body(stream=True, stream_options={"include_usage": True}))
    hit = case.send(case.body(stream=True))
    assert hit.is_hit
    assert usage_of(hit) == []


def test_stored_stream_is_sent_as_events(case: Case) -> None:
    assert "text/event-stream" in stored_stream(case).reply.headers["content-type"]


def test_stored_body_is_sent_as_json_of_a_completion(case: Case) -> None:
    case.learn(case.body())
    hit = case.send(case.body())
    assert hit.is_hit
    assert "application/json" in hit.reply.headers["content-type"]
    assert hit.reply.body["object"] == "chat.completion"
    assert isinstance(hit.reply.body["id"], str)


def test_stored_body_is_the_same_each_time(case: Case) -> None:
    case.learn(case.body())
    first, second = (case.send(case.body()) for _ in range(2))
    assert second.is_hit
    assert without_names(second.reply.body) == without_names(first.reply.body)


def test_stored_answer_is_given_as_a_body_and_as_a_stream_in_turn(case: Case) -> None:
    first = case.learn(case.body())
    for is_stream in (True, False, True):
        hit = case.send(case.body(stream=is_stream))
        assert hit.is_hit
        assert hit.reply.text == first.reply.text
