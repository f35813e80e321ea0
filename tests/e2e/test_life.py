"""How long answers live in a real proxy: bounds, directives, kinds of questions, flushes."""

import dataclasses
import json
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import pytest

from gateway import MODEL, Gateway, Reply, Upstream, config_of, running
from nearhit.cli import main

QUESTION = "How do I enable two-factor authentication on my GitHub account?"
SAME = "How can I enable two-factor authentication on my GitHub account?"
NEARHIT = {
    "deadline_ms": 5000,
    # Alice and Bob are of team red, Carol of blue, Dave and Erin of none.
    "request_control": {
        "no_cache": ["team:red", "team:blue"],
        "no_store": ["team:red", "team:blue"],
        "max_age": ["team:red"],
        "only_if_cached": ["key:hash-of-sk-alice"],
        "ttl": ["org:north"],
    },
    "freshness_classes": [
        {"name": "sport", "words": ["score"], "ttl_s": 2},
        {"name": "tickets", "patterns": [r"\b[A-Z]{2,5}-\d+\b"], "bypass": True},
    ],
}


@pytest.fixture(scope="module")
def life_proxy(
    tmp_path_factory: pytest.TempPathFactory, upstream_server: str, real_artefacts: Path
) -> Iterator[Gateway]:
    config = config_of(upstream_server, nearhit=NEARHIT)
    with running(tmp_path_factory.mktemp("life"), config, real_artefacts) as gateway:
        yield gateway


@pytest.fixture
def proxy(life_proxy: Gateway, upstream: Upstream, request: pytest.FixtureRequest) -> Gateway:
    return dataclasses.replace(life_proxy, system=f"You serve {request.node.name}.")


def control(value: str) -> dict[str, str]:
    return {"cache-control": value}


def life_of(reply: Reply) -> int:
    """How long a hit says it will live."""
    return int(reply.headers["cache-status"].partition("ttl=")[2].partition(";")[0])


def assert_nothing_stored(reply: Reply) -> None:
    """What RFC 9111 asks for where nothing is stored, as an error of the OpenAI API."""
    assert reply.status == 504
    error = reply.body["error"]
    assert set(error) == {"message", "type", "param", "code"}
    assert (error["type"], error["code"]) == ("cache_miss", "504")
    assert "only-if-cached" in error["message"]


def test_only_if_cached_is_a_stored_answer_or_504_and_never_asks_the_model(
    proxy: Gateway, upstream: Upstream
) -> None:
    first = proxy.ask(QUESTION, headers=control("only-if-cached"))
    assert_nothing_stored(first)
    assert (first.outcome, first.reason) == ("miss", "nothing_near")
    assert first.headers["cache-status"] == "nearhit; detail=nothing_near"
    again = proxy.post(
        {"model": MODEL, "messages": proxy.messages(QUESTION), "stream": True},
        **control("only-if-cached"),
    )
    assert_nothing_stored(Reply(again.status_code, again.headers, again.json()))
    assert upstream.count == 0
    proxy.learn(QUESTION)
    for text, stream in ((QUESTION, False), (QUESTION, True), (SAME, False)):
        reply = proxy.ask(text, headers=control("only-if-cached"), stream=stream)
        assert (reply.status, reply.outcome) == (200, "hit")
    for text in ("What is the weather today?", "What became of ABC-12?"):
        assert_nothing_stored(proxy.ask(text, headers=control("only-if-cached")))
    assert_nothing_stored(proxy.ask(QUESTION, headers=control("only-if-cached, no-cache")))
    assert upstream.count == 1


def test_refusal_to_ask_the_model_shows_no_question_in_the_log(proxy: Gateway) -> None:
    secret = "the-canary-of-this-refusal"
    for stream in (False, True):
        body = {"model": MODEL, "messages": proxy.messages(f"Why {secret}?"), "stream": stream}
        assert proxy.post(body, **control("only-if-cached")).status_code == 504
    assert secret not in proxy.server.printed()


def test_only_if_cached_of_who_may_not_is_asked_of_the_model(proxy: Gateway) -> None:
    reply = proxy.ask(QUESTION, key="sk-bob", headers=control("only-if-cached"))
    assert (reply.status, reply.outcome) == (200, "miss")


def test_max_age_refuses_what_is_older_and_the_fresh_answer_takes_its_place(
    proxy: Gateway, upstream: Upstream
) -> None:
    old = proxy.learn(QUESTION)
    time.sleep(3.1)
    assert proxy.ask(QUESTION, headers=control("max-age=3600")).outcome == "hit"
    other = proxy.ask(SAME, headers=control("max-age=2"))
    assert (other.outcome, other.reason) == ("miss", "too_old")
    fresh = proxy.ask(QUESTION, headers=control("max-age=2"))
    assert (fresh.outcome, fresh.reason) == ("miss", "too_old")
    assert fresh.headers["cache-status"] == "nearhit; fwd=miss; detail=too_old"
    assert upstream.count == 3
    end = time.monotonic() + 10
    while (reply := proxy.ask(QUESTION)).text != fresh.text:
        assert reply.text == old.text
        assert time.monotonic() < end
        time.sleep(0.05)


def test_max_age_of_who_may_not_changes_nothing(proxy: Gateway) -> None:
    proxy.learn(QUESTION, key="sk-carol")
    time.sleep(2.1)
    assert proxy.ask(QUESTION, key="sk-carol", headers=control("max-age=1")).outcome == "hit"


@pytest.mark.parametrize("stream", [False, True], ids=["body", "stream"])
@pytest.mark.parametrize(
    "fields",
    [
        {"headers": control("no-cache, no-store, max-age=0")},
        {"headers": {"x-nearhit": "off"}},
        {"cache": {"no-cache": True}},
        {"cache": {"no-store": True, "ttl": 1}},
        {"caching": False},
    ],
    ids=["headers", "off", "no-cache", "no-store", "caching"],
)
def test_who_may_not_refuse_the_cache_is_served_from_it(
    proxy: Gateway, upstream: Upstream, fields: dict[str, Any], stream: bool
) -> None:
    proxy.learn(QUESTION, key="sk-dave")
    reply = proxy.ask(QUESTION, key="sk-dave", stream=stream, **fields)
    assert (reply.status, reply.outcome) == (200, "hit"), reply.headers
    assert upstream.count == 1
    assert proxy.ask(QUESTION, key="sk-dave").outcome == "hit"


def test_client_shortens_the_life_of_its_answer_and_never_lengthens_it(proxy: Gateway) -> None:
    proxy.ask(QUESTION, headers={"x-nearhit-ttl": "3"})
    end = time.monotonic() + 10
    while (reply := proxy.ask(QUESTION)).outcome != "hit":
        assert time.monotonic() < end
    assert life_of(reply) <= 3
    time.sleep(3.1)
    assert proxy.ask(QUESTION, cache={"ttl": 10**9}).outcome == "miss"
    end = time.monotonic() + 10
    while (reply := proxy.ask(QUESTION, headers={"x-nearhit-ttl": str(10**9)})).outcome != "hit":
        assert time.monotonic() < end
    assert 86_000 < life_of(reply) <= 86_400


def test_life_of_who_may_not_shorten_it_is_the_configured_one(proxy: Gateway) -> None:
    proxy.learn(QUESTION, key="sk-dave", headers={"x-nearhit-ttl": "1"})
    assert life_of(proxy.ask(QUESTION, key="sk-dave")) > 86_000


def test_litellms_own_age_control_means_max_age(proxy: Gateway) -> None:
    proxy.learn(QUESTION)
    time.sleep(2.1)
    assert proxy.ask(QUESTION, cache={"s-maxage": 3600}).outcome == "hit"
    assert proxy.ask(QUESTION, cache={"s-maxage": 1}).reason == "too_old"


def test_question_of_a_class_lives_as_long_as_the_class_says(
    proxy: Gateway, upstream: Upstream
) -> None:
    question = "What is the score of the match between Rome and Milan?"
    proxy.learn(question)
    assert life_of(proxy.ask(question)) <= 2
    time.sleep(2.1)
    assert proxy.ask(question, headers=control("max-age=3600")).outcome == "miss"
    for _ in range(2):
        reply = proxy.ask("What became of ABC-12?")
        assert (reply.outcome, reply.reason) == ("bypass", "freshness")
    assert upstream.count == 4


Command = Callable[..., tuple[int, str]]


@pytest.fixture
def command(
    proxy: Gateway, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> Command:
    def run(*words: str) -> tuple[int, str]:
        monkeypatch.setenv("NEARHIT_PROXY_KEY", "sk-admin")
        capsys.readouterr()
        status = main([*words, "--proxy", proxy.url])
        shown = capsys.readouterr()
        return status, shown.out + shown.err

    return run


def test_flush_of_a_text_forgets_this_question_of_everybody_and_no_other(
    proxy: Gateway, command: Command
) -> None:
    other = "How do I descale a kettle?"
    proxy.learn(QUESTION)
    proxy.learn(QUESTION, key="sk-bob")
    proxy.learn(other)
    time.sleep(1.1)  # a flush counts in whole seconds
    assert command("flush", "--text", f" {QUESTION}\n")[0] == 0
    assert proxy.ask(QUESTION).outcome == "miss"
    assert proxy.ask(SAME, key="sk-bob").outcome == "miss"
    assert proxy.ask(other).outcome == "hit"
    end = time.monotonic() + 10
    while proxy.ask(QUESTION).outcome != "hit":  # stored anew
        assert time.monotonic() < end
        time.sleep(0.2)


def test_flush_by_age_forgets_what_was_given_before_of_all_or_of_a_part(
    proxy: Gateway, command: Command
) -> None:
    first, second = "How do I descale a kettle?", "How do I bake bread without an oven?"
    proxy.learn(first)
    proxy.learn(first, key="sk-bob")
    time.sleep(1.1)
    between = datetime.now(UTC)
    time.sleep(1.1)
    proxy.learn(second)
    proxy.learn(second, key="sk-bob")
    tenant = ("--tenant", "key", "hash-of-sk-bob")
    assert command("flush", *tenant, "--before", between.isoformat())[0] == 0
    assert [proxy.ask(text, key="sk-bob").outcome for text in (first, second)] == ["miss", "hit"]
    assert [proxy.ask(text).outcome for text in (first, second)] == ["hit", "hit"]
    assert command("flush", "--all", "--before", between.isoformat())[0] == 0
    assert [proxy.ask(text).outcome for text in (first, second)] == ["miss", "hit"]
    assert command("flush", "--all", "--before", "1d")[0] == 0
    assert proxy.ask(second).outcome == "hit"


def test_flush_before_what_is_no_time_or_not_past_is_refused(
    proxy: Gateway, command: Command
) -> None:
    status, shown = command("flush", "--all", "--before", "yesterday")
    assert (status, "--before must be a time such as" in shown) == (1, True)
    status, shown = command("flush", "--all", "--before", "2999-01-01")
    assert (status, "refused with 422" in shown) == (1, True)


def test_stats_say_what_is_held(proxy: Gateway, command: Command) -> None:
    proxy.learn(QUESTION)
    found = json.loads(command("stats", "--json")[1])
    assert set(found["store"]) == {"bytes", "evicted", "expired", "flushed"}
    assert found["store"]["bytes"] > 0
    assert "bytes of answers; removed: " in command("stats")[1]


def held(gateway: Gateway) -> Any:
    headers = {"authorization": "Bearer sk-admin"}
    return gateway.client.get("/nearhit/stats", headers=headers).raise_for_status().json()


def until(gateway: Gateway, is_reached: Callable[[Any], bool]) -> Any:
    end = time.monotonic() + 20
    while not is_reached(found := held(gateway)):
        assert time.monotonic() < end, found
        time.sleep(0.1)
    return found


def test_bounds_hold_in_a_proxy_of_two_workers_and_after_its_restart(
    tmp_path: Path, upstream: Upstream, real_artefacts: Path
) -> None:
    store: dict[str, Any] = {"max_entries": 8}
    nearhit = {"deadline_ms": 5000, "store": store}
    popular = "How do I descale a kettle?"
    questions = [f"How do I repair a {thing}?" for thing in ["bicycle", "kayak", "piano", "sofa"]]
    questions += [
        f"How do I paint a {thing}?" for thing in ["fence", "door", "boat", "wall", "chair"]
    ]
    config = config_of(upstream.url, nearhit=nearhit)
    with running(tmp_path, config, real_artefacts, workers=2) as gateway:
        gateway.learn(popular)
        for _ in range(5):
            assert gateway.ask(popular).outcome == "hit"
        for question in questions:
            gateway.learn(question)
        found = until(gateway, lambda found: found["entries"] <= 8)
        assert found["store"]["evicted"] >= 2
        assert gateway.ask(popular).outcome == "hit"
        assert gateway.ask(questions[-1]).outcome == "hit"
        # A flush of one question is obeyed by both workers.
        time.sleep(1.1)
        flush = {"text": popular}
        headers = {"authorization": "Bearer sk-admin"}
        gateway.client.post("/nearhit/flush", json=flush, headers=headers).raise_for_status()
        time.sleep(2.5)
        for _ in range(8):  # a connection each, so that both are asked
            with httpx.Client(base_url=gateway.url, timeout=60, trust_env=False) as client:
                asked = dataclasses.replace(gateway, client=client)
                assert asked.ask(popular, headers=control("no-store")).reason == "cache_control"
                explained = asked.client.post(
                    "/nearhit/explain",
                    json={"model": MODEL, "messages": asked.messages(popular)},
                    headers={"authorization": "Bearer sk-alice"},
                ).json()
                assert explained["outcome"] == "miss", explained
    store["max_entries"] = 3
    config = config_of(upstream.url, nearhit=nearhit)
    with running(tmp_path, config, real_artefacts) as gateway:
        found = until(gateway, lambda found: found["entries"] <= 3)
        assert found["store"]["evicted"] >= 7
        assert gateway.ask(popular).outcome == "miss"
