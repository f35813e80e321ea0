"""Whatever breaks, the client gets the model's answer, and nothing stored is lost."""

import contextlib
import json
import os
import signal
import subprocess
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest

from gateway import Gateway, Upstream, config_of, running, store_process

NEARHIT = {"similarity_threshold": 0.95, "deadline_ms": 2000}
QUESTION = "How do I bake bread?"


@pytest.fixture
def own_proxy(tmp_path: Path, upstream: Upstream, real_artefacts: Path) -> Iterator[Gateway]:
    """A proxy of the test's own, which may be broken."""
    config = config_of(upstream.url, nearhit={**NEARHIT, "deadline_ms": 300})
    with running(tmp_path, config, real_artefacts) as gateway:
        yield gateway


def eventually_hits(gateway: Gateway, question: str) -> None:
    end = time.monotonic() + 15
    while gateway.ask(question).kind != "exact":  # one in flight is served without the store
        assert time.monotonic() < end, gateway.ask(question).headers
        time.sleep(0.1)


def test_store_that_is_killed_or_hangs_costs_no_answer_and_comes_back(own_proxy: Gateway) -> None:
    own_proxy.learn(QUESTION)
    os.kill(store_process(own_proxy), signal.SIGKILL)
    for _ in range(3):
        assert own_proxy.ask(QUESTION).status == 200
    eventually_hits(own_proxy, QUESTION)

    pid = store_process(own_proxy)
    os.kill(pid, signal.SIGSTOP)
    try:
        reply = own_proxy.ask(QUESTION)
        assert (reply.status, reply.outcome, reply.reason) == (200, "miss", "deadline")
        assert own_proxy.ask(QUESTION, stream=True).ended
    finally:
        os.kill(pid, signal.SIGCONT)
    eventually_hits(own_proxy, QUESTION)
    assert "requests go to the model" in own_proxy.server.printed()
    assert "bread" not in own_proxy.server.printed()


def test_proxy_that_is_killed_under_load_keeps_every_answer_it_said_was_stored(
    tmp_path: Path, upstream: Upstream, real_artefacts: Path
) -> None:
    config = config_of(upstream.url, nearhit=NEARHIT)
    stored: list[str] = []

    def learn_many(gateway: Gateway, first: int) -> None:
        with contextlib.suppress(Exception):  # the proxy dies under it
            for number in range(first, first + 10_000):
                question = f"What is the meaning of entry {number}?"
                gateway.ask(question, seed=number)
                if gateway.ask(question, seed=number).kind == "exact":
                    stored.append(question)

    for round_ in range(2):
        with (
            running(tmp_path, config, real_artefacts) as gateway,
            ThreadPoolExecutor(4) as pool,
        ):
            for worker in range(4):
                pool.submit(learn_many, gateway, 100_000 * (4 * round_ + worker))
            time.sleep(2)
            os.killpg(gateway.server.process.pid, signal.SIGKILL)
    assert len(stored) > 20
    calls = upstream.count
    with running(tmp_path, config, real_artefacts) as gateway:
        before = upstream.count
        for question in stored:
            number = int(question.rstrip("?").rsplit(" ", 1)[1])
            assert gateway.ask(question, seed=number).outcome == "hit", question
        assert upstream.count == before >= calls


def test_second_worker_serves_what_the_first_one_stored(
    tmp_path: Path, upstream: Upstream, real_artefacts: Path
) -> None:
    config = config_of(upstream.url, nearhit=NEARHIT)
    with running(tmp_path, config, real_artefacts, workers=2) as gateway:
        gateway.learn(QUESTION)
        time.sleep(2)
        with ThreadPoolExecutor(8) as pool:  # enough connections to reach both workers
            replies = list(pool.map(lambda _: _fresh_ask(gateway), range(24)))
        assert [reply for reply in replies if reply != "hit"] == []
        found = subprocess.run(
            ["pgrep", "-fc", f"nearhit.store.daemon {gateway.folder / 'data'}"],
            capture_output=True,
            text=True,
            check=True,
        )
        assert found.stdout.strip() == "1"


def _fresh_ask(gateway: Gateway) -> str:
    """Ask over a connection of its own, so that any worker may take it."""
    body = {"model": "gpt-4o-mini", "messages": gateway.messages(QUESTION)}
    response = httpx.post(
        f"{gateway.url}/v1/chat/completions",
        json=body,
        headers={"authorization": "Bearer sk-alice"},
        timeout=30,
    )
    return str(response.headers.get("x-nearhit"))


def test_proxy_without_an_encoder_serves_exact_repeats(tmp_path: Path, upstream: Upstream) -> None:
    config = config_of(upstream.url, nearhit={**NEARHIT, "encoder": {"base": "/no/such/folder"}})
    (tmp_path / "artefacts").mkdir()
    with running(tmp_path, config, tmp_path / "artefacts", is_warm=False) as gateway:
        gateway.learn(QUESTION)
        assert gateway.ask(QUESTION).kind == "exact"
        assert gateway.ask("How does one bake bread?").reason == "no_encoder"
        assert "encoder.base must be a folder" in gateway.server.printed()


DEEP = '{"model": "gpt-4o-mini", "messages": ' + "[" * 5000 + "]" * 5000 + "}"
USER = {"role": "user", "content": "hello"}
BAD_BODIES: dict[str, bytes] = {
    "nothing": b"",
    "no json": b"{",
    "a list": b"[]",
    "a string": b'"x"',
    "null": b"null",
    "deep": DEEP.encode(),
    "lone surrogate": b'{"model":"gpt-4o-mini","messages":[{"role":"user","content":"\\ud800"}]}',
    "surrogate before": b'{"model":"gpt-4o-mini","messages":[{"role":"system","content":"\\udfff"},'
    b'{"role":"user","content":"hi"}]}',
    "invalid utf-8": b'{"model":"gpt-4o-mini","messages":[{"role":"user","content":"\xff"}]}',
    "nan": b'{"model":"gpt-4o-mini","temperature":NaN,"messages":[{"role":"user","content":"x"}]}',
    "duplicate keys": b'{"model":"a","model":"gpt-4o-mini","messages":[{"role":"user",'
    b'"content":"x"}]}',
}
ODD_FIELDS: dict[str, object] = {
    "model": [None, 3, [], {}, "", "no-such-model", "gpt-4o-mini,gpt-4o", "x" * 10_000],
    "messages": [
        None,
        3,
        "hi",
        {},
        [],
        [None],
        ["hi"],
        [{}],
        [{"role": "user"}],
        [{"role": 3, "content": "x"}],
        [{"role": "user", "content": 7}],
        [{"role": "user", "content": {"a": 1}}],
        [{"role": "user", "content": [None]}],
        [{"role": "user", "content": ["x"]}],
        [{"role": "user", "content": [{"type": "text"}]}],
        [{"role": "user", "content": [{"type": "text", "text": 5}]}],
        [{"role": "tool", "content": "x"}, USER],
        [{"role": "assistant", "tool_calls": "x"}, USER],
        [{"role": "user", "content": "zero\u200bwidth \u202e bidirectional"}],
        [{"role": "user", "content": "\u0000"}],
        [{"role": "user", "content": "a" + "\u0301\u0323" * 100_000}],
        [USER] * 10_000,
        [{"role": "user", "content": "x" * 1_000_000}],
        [{"role": "user", "content": "word " * 200_000}],
    ],
    "temperature": ["hot", [], {}, -1, 1e308, 10**400, True],
    "n": ["1", 0, -1, 2.5, [], True],
    "stream": ["yes", 1, [], {}],
    "stream_options": ["x", [], {"include_usage": "yes"}, 3],
    "tools": ["x", {}, [None], 3],
    "response_format": ["x", [], 3],
    "cache": ["x", 3, [], {}, {"no-cache": "x"}, {"ttl": "soon"}],
    "caching": ["x", 3, True],
    "metadata": ["x", 3, []],
    "user": [3, [], {}],
    "stop": [3, {}, [3]],
    "seed": ["x", [], 1.5],
    "logit_bias": ["x", []],
    "litellm_logging_obj": ["x", {}],
    "proxy_server_request": ["x", {"headers": 3}],
}


@pytest.fixture(scope="module")
def plain_proxy(
    tmp_path_factory: pytest.TempPathFactory, upstream_server: str, real_artefacts: Path
) -> Iterator[Gateway]:
    """LiteLLM alone, to compare with."""
    folder = tmp_path_factory.mktemp("plain")
    with running(folder, config_of(upstream_server, nearhit=None), real_artefacts) as gateway:
        yield gateway


def answered(gateway: Gateway, body: bytes) -> tuple[int, str]:
    """Status, and what an error says without what differs from call to call."""
    response = gateway.post(body)
    if response.status_code == 200:
        return 200, ""
    try:
        error = response.json().get("error")
    except json.JSONDecodeError:
        return response.status_code, response.text[:200]
    kept = {key: error[key] for key in ("type", "code", "param")} if isinstance(error, dict) else {}
    return response.status_code, json.dumps(kept)


def cases() -> Iterator[tuple[str, bytes]]:
    yield from BAD_BODIES.items()
    for field, values in ODD_FIELDS.items():
        assert isinstance(values, list)
        for number, value in enumerate(values):
            body = {"model": "gpt-4o-mini", "messages": [USER], field: value}
            yield f"{field} {number}", json.dumps(body).encode()


def test_odd_request_gets_what_litellm_alone_would_have_answered(
    proxy: Gateway, plain_proxy: Gateway, upstream: Upstream
) -> None:
    differing = {}
    for name, body in cases():
        # Twice: the second time the cache may have something to say.
        seen = [answered(proxy, body), answered(proxy, body)]
        expected = answered(plain_proxy, body)
        if seen != [expected, expected]:
            differing[name] = (seen, expected)
    assert differing == {}
    in_nearhit = [part for part in proxy.server.printed().split("Traceback") if "/nearhit/" in part]
    assert in_nearhit == []
