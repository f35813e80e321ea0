"""A question asked again is answered from the cache, whole, as a body or as a stream."""

import time
from typing import Any

import openai
import pytest

from assembling import assembled, plain
from gateway import MODEL, Gateway, Upstream

QUESTION = "How do I bake bread?"


def without_names(body: Any) -> Any:
    return {key: value for key, value in body.items() if key not in ("id", "created")}


def test_question_asked_again_is_a_hit_that_calls_no_model(
    proxy: Gateway, upstream: Upstream
) -> None:
    model = proxy.learn(QUESTION)
    calls = upstream.count
    hit = proxy.ask(QUESTION)
    assert upstream.count == calls == 1
    assert (hit.outcome, hit.kind, hit.headers["x-nearhit-similarity"]) == (
        "hit",
        "exact",
        "1.0000",
    )
    assert without_names(hit.body) == without_names(model.body)
    assert hit.body["id"] != model.body["id"]
    assert hit.body["created"] >= model.body["created"]


def test_question_in_other_words_is_a_semantic_hit(proxy: Gateway, upstream: Upstream) -> None:
    proxy.learn("How can I rename a local branch in git?")
    hit = proxy.ask("How do I rename a local git branch?")
    assert (hit.outcome, hit.kind) == ("hit", "semantic")
    assert 0.95 <= float(hit.headers["x-nearhit-similarity"]) < 1
    assert upstream.count == 1


def test_question_about_something_else_is_a_miss_that_says_how_near(proxy: Gateway) -> None:
    proxy.learn("How do I delete a remote branch in git?")
    miss = proxy.ask("How do I create a remote branch in git?")
    assert (miss.outcome, miss.reason) == ("miss", "below_threshold")
    assert float(miss.headers["x-nearhit-similarity"]) < 0.95


def test_hit_carries_the_standard_headers(proxy: Gateway) -> None:
    first = proxy.learn(QUESTION)
    assert first.headers["cache-status"] == "nearhit; fwd=miss; detail=" + str(first.reason)
    hit = proxy.ask(QUESTION)
    assert hit.headers["cache-status"].startswith("nearhit; hit; ttl=")
    assert int(hit.headers["age"]) >= 0
    assert float(hit.headers["x-litellm-response-cost"]) == 0


TOOL_CALLS = [
    {"id": "call_1", "type": "function", "function": {"name": "look", "arguments": '{"at": 1}'}},
    {"id": "call_2", "type": "function", "function": {"name": "go", "arguments": "{}"}},
]
CITATION = {
    "type": "url_citation",
    "url_citation": {"start_index": 0, "end_index": 4, "url": "https://example.org", "title": "t"},
}
LOGPROBS = {
    "content": [
        {"token": "Hello", "logprob": -0.1, "bytes": [72], "top_logprobs": []},
        {"token": " you", "logprob": -0.2, "bytes": [32], "top_logprobs": []},
    ]
}
DETAILS = {
    "prompt_tokens": 30,
    "completion_tokens": 20,
    "total_tokens": 50,
    "prompt_tokens_details": {"cached_tokens": 10},
    "completion_tokens_details": {"reasoning_tokens": 7},
}


def choice(index: int, content: str | None, **fields: Any) -> dict[str, Any]:
    message = {"role": "assistant", "content": content, **fields.pop("message", {})}
    return {"index": index, "message": message, "finish_reason": "stop", **fields}


ANSWERS: dict[str, dict[str, Any]] = {
    "long text": {"message": {"role": "assistant", "content": "A line of text.\n\n" * 60}},
    "code": {"message": {"role": "assistant", "content": "```py\nif x:\n\treturn  1\n```\n"}},
    "unicode": {"message": {"role": "assistant", "content": "naïve 你好 \U0001f600 e\u0301"}},
    "reasoning": {
        "message": {"role": "assistant", "content": "Yes.", "reasoning_content": "Let me think."}
    },
    "refusal": {"message": {"role": "assistant", "content": None, "refusal": "I will not."}},
    "annotations": {"message": {"role": "assistant", "content": "See.", "annotations": [CITATION]}},
    "tool calls": {
        "message": {"role": "assistant", "content": None, "tool_calls": TOOL_CALLS},
        "finish_reason": "tool_calls",
    },
    "logprobs": {"choices": [choice(0, "Hello you", logprobs=LOGPROBS)]},
    "two choices": {"choices": [choice(0, "Heads, say I."), choice(1, "Tails, say I.")]},
    "usage details": {
        "message": {"role": "assistant", "content": "Counted."},
        "usage": DETAILS,
    },
    "service tier": {
        "message": {"role": "assistant", "content": "Soon."},
        "extra": {"service_tier": "flex"},
    },
}
answers = pytest.mark.parametrize("answer", ANSWERS.values(), ids=ANSWERS.keys())


@answers
def test_body_hit_is_field_by_field_what_the_model_sent(
    proxy: Gateway, upstream: Upstream, answer: dict[str, Any]
) -> None:
    upstream.script(**answer)
    model = proxy.learn(QUESTION)
    hit = proxy.ask(QUESTION)
    assert hit.kind == "exact"
    assert without_names(hit.body) == without_names(model.body)


# LiteLLM drops a refusal from a stream, and the finish reason of every choice but the first.
LOST_IN_STREAMS = {"refusal", "two choices"}
streamed_answers = pytest.mark.parametrize(
    "answer",
    [answer for name, answer in ANSWERS.items() if name not in LOST_IN_STREAMS],
    ids=[name for name in ANSWERS if name not in LOST_IN_STREAMS],
)


@streamed_answers
@pytest.mark.parametrize("usage", [True, False], ids=["usage", "no usage"])
def test_stream_hit_is_what_the_model_streamed(
    proxy: Gateway, upstream: Upstream, answer: dict[str, Any], usage: bool
) -> None:
    upstream.script(**answer)
    options: dict[str, Any] = {"stream": True, "stream_options": {"include_usage": usage}}
    model = proxy.learn(QUESTION, **options)
    hit = proxy.ask(QUESTION, **options)
    assert (hit.outcome, hit.ended) == ("hit", True)
    assert assembled(hit) == assembled(model)
    assert hit.headers["content-type"] == model.headers["content-type"]
    assert len({chunk["id"] for chunk in hit.chunks}) == 1
    assert {chunk["model"] for chunk in hit.chunks} == {MODEL}
    assert {chunk.get("system_fingerprint") for chunk in hit.chunks} == {"fp_scripted"}
    usages = [chunk["usage"] for chunk in hit.chunks if chunk.get("usage")]
    assert len(usages) == usage
    if usage:  # LiteLLM adds its price and its own count to what the model said
        said = [chunk["usage"] for chunk in model.chunks if chunk.get("usage")][-1]
        assert usages[0].items() <= said.items()


@answers
def test_body_that_was_stored_serves_a_stream_with_all_that_the_model_sent(
    proxy: Gateway, upstream: Upstream, answer: dict[str, Any]
) -> None:
    upstream.script(**answer)
    model = proxy.learn(QUESTION)
    hit = proxy.ask(QUESTION, stream=True, stream_options={"include_usage": True})
    assert (hit.outcome, hit.ended) == ("hit", True)
    assert assembled(hit) == [plain(choice) for choice in model.body["choices"]]
    assert hit.chunks[-1]["usage"] == model.body["usage"]


@streamed_answers
def test_stream_that_was_stored_serves_a_body_as_the_model_would_have(
    proxy: Gateway, upstream: Upstream, answer: dict[str, Any]
) -> None:
    upstream.script(**answer)
    body = proxy.ask(QUESTION, key="sk-erin").body
    proxy.learn(QUESTION, stream=True, stream_options={"include_usage": True})
    hit = proxy.ask(QUESTION)
    assert hit.outcome == "hit"
    assert list(map(plain, hit.body["choices"])) == list(map(plain, body["choices"]))
    for name in body.keys() - {"id", "created", "choices"}:
        assert hit.body[name] == body[name], name


@pytest.mark.parametrize("name", sorted(LOST_IN_STREAMS))
def test_stream_that_litellm_passes_on_incomplete_is_not_stored(
    proxy: Gateway, upstream: Upstream, name: str
) -> None:
    upstream.script(**ANSWERS[name])
    for _ in range(3):
        assert proxy.ask(QUESTION, stream=True).outcome == "miss"
        time.sleep(0.2)


def test_stream_hit_of_a_long_answer_comes_in_many_chunks(
    proxy: Gateway, upstream: Upstream
) -> None:
    upstream.script(message={"role": "assistant", "content": "A line of text.\n" * 40})
    proxy.learn(QUESTION)
    assert len(proxy.ask(QUESTION, stream=True).chunks) > 20


@pytest.mark.parametrize("stream", [False, True], ids=["body", "stream"])
def test_hit_is_logged_as_a_cache_hit_at_no_cost(
    proxy: Gateway, upstream: Upstream, stream: bool
) -> None:
    mark = f"A marked answer, stream {stream}."
    upstream.script(message={"role": "assistant", "content": mark})
    proxy.ask(QUESTION, stream=stream)
    [miss] = proxy.records(1, mark)
    assert miss["cache_hit"] is not True
    assert miss["response_cost"] > 0
    assert proxy.ask(QUESTION, stream=stream).outcome == "hit"
    hit = proxy.records(2, mark)[1]
    assert (hit["cache_hit"], hit["response_cost"], hit["model_group"]) == (True, 0, MODEL)
    assert hit["saved_cache_cost"] == pytest.approx(miss["response_cost"])
    assert hit["usage"] == miss["usage"]


def test_openai_sdk_sees_a_hit_as_any_answer(proxy: Gateway, upstream: Upstream) -> None:
    client = openai.OpenAI(base_url=f"{proxy.url}/v1", api_key="sk-alice", max_retries=0)
    messages: Any = proxy.messages(QUESTION)
    model = client.chat.completions.create(model=MODEL, messages=messages)
    proxy_hit = client.chat.completions.create(model=MODEL, messages=messages)
    assert proxy_hit.choices == model.choices
    assert proxy_hit.usage == model.usage
    with client.chat.completions.stream(model=MODEL, messages=messages) as events:
        final = events.get_final_completion()
    assert final.choices[0].message.content == model.choices[0].message.content
    assert upstream.count == 1


async def test_async_openai_sdk_sees_a_stream_hit_as_any_stream(
    proxy: Gateway, upstream: Upstream
) -> None:
    model = proxy.learn(QUESTION)
    messages: Any = proxy.messages(QUESTION)
    async with openai.AsyncOpenAI(base_url=f"{proxy.url}/v1", api_key="sk-alice") as client:
        chunks = client.chat.completions.stream(model=MODEL, messages=messages)
        async with chunks as events:
            final = await events.get_final_completion()
    assert final.choices[0].message.content == model.text
    assert upstream.count == 1
