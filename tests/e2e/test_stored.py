"""Only complete, successful answers are stored, and only for whom they were given."""

import contextlib
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import pytest

from gateway import MODEL, Gateway, Upstream

QUESTION = "How do I bake bread?"


def never_stored(proxy: Gateway, times: int = 3, **fields: Any) -> None:
    """Ask the same question several times, with time to store in between."""
    for _ in range(times):
        assert proxy.ask(QUESTION, **fields).outcome != "hit"
        time.sleep(0.2)


@pytest.mark.parametrize("stream", [False, True], ids=["body", "stream"])
@pytest.mark.parametrize(
    "plan",
    [
        {"finish_reason": "length"},
        {"finish_reason": "content_filter"},
        {"message": {"role": "assistant", "content": ""}},
        {"message": {"role": "assistant", "content": None}},
    ],
    ids=["length", "content filter", "empty", "null"],
)
def test_answer_that_is_not_complete_is_not_stored(
    proxy: Gateway, upstream: Upstream, plan: dict[str, Any], stream: bool
) -> None:
    upstream.script(**plan)
    never_stored(proxy, stream=stream)


@pytest.mark.parametrize("status", [400, 404, 429, 500, 503])
def test_error_is_not_stored(proxy: Gateway, upstream: Upstream, status: int) -> None:
    upstream.script(status=status)
    assert proxy.ask(QUESTION, model="gpt-4o").status == status
    upstream.script()
    assert proxy.ask(QUESTION, model="gpt-4o").outcome != "hit"


def test_stream_that_the_model_cuts_is_not_stored(proxy: Gateway, upstream: Upstream) -> None:
    upstream.script(cut_after=3)
    for _ in range(3):
        with contextlib.suppress(httpx.RemoteProtocolError):
            assert proxy.ask(QUESTION, stream=True).outcome == "miss"
        time.sleep(0.2)


def test_stream_that_ends_without_a_finish_reason_is_not_stored(
    proxy: Gateway, upstream: Upstream
) -> None:
    chunk = {
        "id": "x",
        "object": "chat.completion.chunk",
        "created": 1,
        "model": MODEL,
        "choices": [{"index": 0, "delta": {"content": "Half an"}, "finish_reason": None}],
    }
    upstream.script(chunks=[chunk, chunk])
    never_stored(proxy, stream=True)


def test_stream_that_the_client_leaves_half_way_is_not_stored(
    proxy: Gateway, upstream: Upstream
) -> None:
    upstream.script(message={"role": "assistant", "content": "word " * 100}, pause_s=0.02)
    body = {"model": MODEL, "messages": proxy.messages(QUESTION), "stream": True}
    sent = {"authorization": "Bearer sk-alice"}
    for _ in range(2):
        with proxy.client.stream("POST", "/v1/chat/completions", json=body, headers=sent) as got:
            assert got.headers["x-nearhit"] == "miss"
            next(got.iter_lines())
        time.sleep(0.3)


@pytest.mark.parametrize("key", ["sk-bob", "sk-carol", "sk-dave"])
def test_answer_for_one_key_is_not_given_to_another(
    proxy: Gateway, upstream: Upstream, key: str
) -> None:
    proxy.learn(QUESTION)
    assert proxy.ask("How does one bake bread?").outcome == "hit"
    assert proxy.ask("How does one bake bread?", key=key).outcome == "miss"
    assert upstream.count == 2


def test_users_without_a_key_are_told_apart(proxy: Gateway) -> None:
    proxy.learn(QUESTION, key="sso-frank")
    assert proxy.ask(QUESTION, key="sso-grace").outcome == "miss"
    for _ in range(2):
        assert proxy.ask(QUESTION, key="nobody").reason == "no_identity"


def test_answer_for_one_key_is_not_given_to_another_to_the_letter(proxy: Gateway) -> None:
    proxy.learn(QUESTION)
    assert proxy.ask(QUESTION, key="sk-bob").outcome == "miss"


@pytest.mark.parametrize(
    "fields",
    [
        {"cache_key": "KEY"},
        {"preset_cache_key": "KEY"},
        {"litellm_params": {"preset_cache_key": "KEY"}},
        {"user": "alice"},
        {"metadata": {"user_api_key": "hash-of-sk-alice", "user_api_key_hash": "hash-of-sk-alice"}},
        {"litellm_metadata": {"user_api_key": "hash-of-sk-alice"}},
        {"user_api_key_dict": {"api_key": "hash-of-sk-alice"}},
        {"nearhit": {"scope": "global", "similarity_threshold": 0}},
        {"extra_body": {"scope": "global"}},
    ],
    ids=lambda fields: next(iter(fields)),
)
def test_nothing_in_a_body_reaches_another_keys_answers(
    proxy: Gateway, upstream: Upstream, fields: dict[str, Any]
) -> None:
    proxy.learn(QUESTION, **fields)
    other = proxy.ask(QUESTION, key="sk-bob", **fields)
    assert other.outcome in ("miss", "none", "bypass")


@pytest.mark.parametrize(
    "headers",
    [
        {"x-nearhit-scope": "global"},
        {"x-nearhit-tenant": "hash-of-sk-alice"},
        {"x-litellm-cache-key": "KEY"},
        {"x-litellm-end-user-id": "alice"},
    ],
    ids=lambda headers: next(iter(headers)),
)
def test_nothing_in_the_headers_reaches_another_keys_answers(
    proxy: Gateway, headers: dict[str, str]
) -> None:
    proxy.learn(QUESTION)
    assert proxy.ask(QUESTION, key="sk-bob", headers=headers).outcome == "miss"


@pytest.mark.parametrize(
    "fields",
    [{"temperature": 0.2}, {"seed": 3}, {"max_tokens": 50}, {"stop": ["x"]}, {"model": "gpt-4o"}],
    ids=lambda fields: next(iter(fields)),
)
def test_request_with_another_parameter_is_another_question(
    proxy: Gateway, fields: dict[str, Any]
) -> None:
    proxy.learn(QUESTION)
    assert proxy.ask(QUESTION, **fields).outcome == "miss"


@pytest.mark.parametrize(
    "fields",
    [{"user": "x"}, {"metadata": {"a": "b"}}, {"timeout": 30}, {"n": 1}, {"stop": None}],
    ids=lambda fields: next(iter(fields)),
)
def test_request_that_differs_in_delivery_alone_is_a_hit(
    proxy: Gateway, fields: dict[str, Any]
) -> None:
    proxy.learn(QUESTION)
    assert proxy.ask(QUESTION, **fields).outcome == "hit"


IMAGES = [
    [
        {"type": "text", "text": "What is this?"},
        {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{data}"}},
    ]
    for data in ("AAAA", "BBBB")
]


def test_question_about_another_image_is_another_question(proxy: Gateway) -> None:
    proxy.learn(IMAGES[0])
    assert proxy.ask(IMAGES[1]).outcome == "miss"
    assert proxy.ask(IMAGES[0]).kind == "exact"


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"headers": {"x-nearhit": "off"}}, "header"),
        ({"headers": {"cache-control": "no-cache"}}, "cache_control"),
        ({"headers": {"cache-control": "max-age=0, no-store"}}, "cache_control"),
        ({"cache": {"no-cache": True}}, "cache_field"),
        ({"caching": False}, "cache_field"),
        ({"n": 2}, "several_choices"),
        ({"web_search_options": {}}, "web_search"),
        ({"messages": [{"role": "assistant", "content": "hi"}]}, "last_role"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_request_that_wants_no_cache_is_left_alone(
    proxy: Gateway, fields: dict[str, Any], reason: str
) -> None:
    proxy.learn(QUESTION)
    reply = proxy.ask(QUESTION, **fields)
    assert (reply.status, reply.outcome, reply.reason) == (200, "bypass", reason)
    assert reply.headers["cache-status"] == f"nearhit; fwd=bypass; detail={reason}"


def test_key_that_wants_no_cache_is_left_alone(proxy: Gateway) -> None:
    for _ in range(2):
        assert proxy.ask(QUESTION, key="sk-off").reason == "key"


def test_question_whose_answer_changes_is_left_alone(proxy: Gateway) -> None:
    reply = proxy.ask("What is the weather in Rome?")
    assert (reply.outcome, reply.reason) == ("bypass", "freshness")


@pytest.mark.parametrize("stream", [False, True], ids=["body", "stream"])
def test_identical_questions_at_once_call_the_model_once(
    proxy: Gateway, upstream: Upstream, stream: bool
) -> None:
    upstream.script(delay_s=0.5)
    with ThreadPoolExecutor(6) as pool:
        replies = list(pool.map(lambda _: proxy.ask(QUESTION, stream=stream), range(6)))
    assert {reply.status for reply in replies} == {200}
    assert len({reply.text for reply in replies}) == 1
    assert upstream.count == 1
    assert sorted(reply.outcome for reply in replies) == ["hit"] * 5 + ["miss"]
    coalesced = [reply for reply in replies if reply.kind == "coalesced"]
    assert coalesced
    assert coalesced[0].headers["cache-status"] == (
        "nearhit; fwd=miss; collapsed; detail=coalesced"
    )


def test_identical_questions_at_once_all_get_an_answer_when_the_first_call_fails(
    proxy: Gateway, upstream: Upstream
) -> None:
    upstream.script(status=500, delay_s=0.5)
    replies = []
    first = threading.Thread(target=lambda: replies.append(proxy.ask(QUESTION, model="gpt-4o")))
    first.start()
    time.sleep(0.2)
    upstream.script()
    start = time.monotonic()
    with ThreadPoolExecutor(3) as pool:
        others = list(pool.map(lambda _: proxy.ask(QUESTION, model="gpt-4o"), range(3)))
    # Far below `coalesce_wait_s`, which is 10: they were told, they did not wait it out.
    assert time.monotonic() - start < 8
    first.join()
    assert [reply.status for reply in replies] == [500]
    assert [reply.status for reply in others] == [200] * 3


def test_stream_hit_that_the_client_leaves_is_logged_as_a_hit(
    proxy: Gateway, upstream: Upstream
) -> None:
    mark = "A long and marked answer. "
    upstream.script(message={"role": "assistant", "content": mark * 2000})
    proxy.learn(QUESTION)
    count = len(proxy.records(2, mark))
    body = {"model": MODEL, "messages": proxy.messages(QUESTION), "stream": True}
    sent = {"authorization": "Bearer sk-alice"}
    with proxy.client.stream("POST", "/v1/chat/completions", json=body, headers=sent) as got:
        assert got.headers["x-nearhit"] == "hit"
        next(got.iter_lines())
    last = proxy.records(count + 1, mark)[-1]
    assert (last["cache_hit"], last["response_cost"]) == (True, 0)


def test_log_of_the_proxy_never_shows_a_prompt(proxy: Gateway) -> None:
    secret = "the-canary-of-this-test"
    for text in (f"How do I feed {secret}?", f"How does one feed {secret}?"):
        proxy.ask(text)
        proxy.ask(text)
    for log in (proxy.server.log, proxy.folder / "data" / "store.log"):
        assert secret not in log.read_text(encoding="utf-8", errors="replace")
