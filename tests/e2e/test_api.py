"""The routes beside LiteLLM's own, and the commands that call them, on a real proxy."""

import json
import time
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import pytest

from gateway import MODEL, Gateway, Upstream, config_of, running
from nearhit.cli import main

QUESTION = "How do I enable two-factor authentication on my GitHub account?"
SAME = "How can I enable two-factor authentication on my GitHub account?"
DISABLE = "How do I disable two-factor authentication on my GitHub account?"

Command = Callable[..., tuple[int, str]]


@pytest.fixture(scope="module")
def admin_proxy(
    tmp_path_factory: pytest.TempPathFactory, upstream_server: str, real_artefacts: Any
) -> Iterator[Gateway]:
    config = config_of(upstream_server, nearhit={"deadline_ms": 5000})
    with running(tmp_path_factory.mktemp("api"), config, real_artefacts) as gateway:
        yield gateway


@pytest.fixture
def proxy(admin_proxy: Gateway, upstream: Upstream, request: pytest.FixtureRequest) -> Gateway:
    admin_proxy.system = f"You serve {request.node.name}."
    return admin_proxy


@pytest.fixture
def command(
    admin_proxy: Gateway, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> Command:
    def run(*words: str, key: str = "sk-admin") -> tuple[int, str]:
        monkeypatch.setenv("NEARHIT_PROXY_KEY", key)
        capsys.readouterr()
        status = main([*words, "--proxy", admin_proxy.url])
        shown = capsys.readouterr()
        return status, shown.out + shown.err

    return run


def call(gateway: Gateway, method: str, path: str, key: str, body: Any = None) -> httpx.Response:
    headers = {"authorization": f"Bearer {key}"}
    return gateway.client.request(method, f"/nearhit/{path}", json=body, headers=headers)


def test_explain_names_what_decided_and_serves_counts_and_asks_nothing(
    proxy: Gateway, upstream: Upstream, command: Command
) -> None:
    proxy.learn(QUESTION)
    asked = upstream.count

    def explained(text: str, key: str = "sk-alice") -> Any:
        body = {"model": MODEL, "messages": proxy.messages(text)}
        return call(proxy, "POST", "explain", key, body).json()

    assert (explained(QUESTION)["outcome"], explained(QUESTION)["kind"]) == ("hit", "exact")
    near = explained(SAME)
    assert (near["outcome"], near["kind"]) == ("hit", "semantic")
    assert near["candidates"][0]["stored_question"] == QUESTION
    assert near["candidates"][0]["confidence"] > 0.99
    other = explained(DISABLE)
    assert other["outcome"] == "miss"
    assert other["candidates"][0]["veto"] == "polarity"
    assert explained("What is the weather today?") == {"outcome": "bypass", "reason": "freshness"}
    assert explained(QUESTION, key="sk-bob") == {
        "outcome": "miss",
        "reason": "nothing_near",
        "candidates": [],
    }
    assert upstream.count == asked
    words = ("explain", DISABLE, "--model", MODEL, "--system", proxy.system)
    status, shown = command(*words, key="sk-alice")
    assert (status, "polarity" in shown, QUESTION in shown) == (0, True, True)


@pytest.mark.parametrize("body", [{"metadata": "x"}, {"messages": 3}, {}, {"model": [], "n": {}}])
def test_explain_of_what_is_no_chat_request_says_so(proxy: Gateway, body: Any) -> None:
    told = call(proxy, "POST", "explain", "sk-alice", body)
    assert told.status_code == 400 or told.json()["outcome"] == "bypass"


def test_flush_of_a_model_or_a_tenant_forgets_theirs_alone_and_at_once(
    proxy: Gateway, upstream: Upstream, command: Command
) -> None:
    for key in ("sk-alice", "sk-bob"):
        proxy.learn(QUESTION, key=key)
        proxy.learn(QUESTION, key=key, model="gpt-4o")
    time.sleep(1.1)  # a flush counts in whole seconds
    assert command("flush", "--model", "gpt-4o") == (0, 'flushed {"model": "gpt-4o"}\n')
    assert proxy.ask(QUESTION, model="gpt-4o").outcome == "miss"
    assert proxy.ask(QUESTION).outcome == "hit"
    assert command("flush", "--tenant", "key", "hash-of-sk-bob")[0] == 0
    assert proxy.ask(SAME, key="sk-bob").outcome == "miss"
    assert proxy.ask(QUESTION, key="sk-bob").outcome == "miss"
    assert proxy.ask(QUESTION).outcome == "hit"
    time.sleep(1.1)
    proxy.learn("How do I bake bread without an oven?", key="sk-bob")


def test_flush_of_all_forgets_all_and_delete_forgets_one(proxy: Gateway, command: Command) -> None:
    first = "How do I descale a kettle?"
    proxy.learn(first)
    proxy.learn(QUESTION)
    entry = proxy.ask(first).headers["x-nearhit-entry"]
    assert command("delete", entry) == (0, f"deleted {entry}\n")
    assert proxy.ask(first).outcome == "miss"
    assert proxy.ask(QUESTION).outcome == "hit"
    assert command("flush", "--all")[0] == 0
    assert proxy.ask(QUESTION).outcome == "miss"


def test_stats_count_requests_and_answers(proxy: Gateway, command: Command) -> None:
    proxy.learn(QUESTION)
    end = time.monotonic() + 15
    while "hit_exact" not in (shown := command("stats")[1]):
        assert time.monotonic() < end, shown
        time.sleep(0.2)
    found = json.loads(command("stats", "--json")[1])
    assert found["entries"] >= 1
    assert {row["model"] for row in found["tally"]} >= {MODEL}


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("GET", "stats", None),
        ("POST", "flush", {"all": True}),
        ("DELETE", "entries/00000000-0000-0000-0000-000000000001", None),
    ],
)
def test_routes_of_admins_are_closed_to_tenants_and_strangers(
    proxy: Gateway, method: str, path: str, body: Any
) -> None:
    assert call(proxy, method, path, "sk-alice", body).status_code == 403
    assert call(proxy, method, path, "sk-unknown", body).status_code == 401
    assert call(proxy, method, path, "sk-admin", body).status_code == 200


LONG = {"tenant": ["key"] * 9}


@pytest.mark.parametrize(
    "body",
    [{}, {"all": False}, {"all": True, "model": "m"}, {"tenant": ["key"]}, {"what": 1}, LONG],
)
def test_flush_of_nothing_or_of_two_things_is_refused(proxy: Gateway, body: Any) -> None:
    assert call(proxy, "POST", "flush", "sk-admin", body).status_code == 422


def test_commands_say_what_is_wrong(command: Command, capsys: pytest.CaptureFixture[str]) -> None:
    status, shown = command("stats", key="sk-alice")
    assert (status, "refused with 403" in shown) == (1, True)
    for hostile in ("../flush", "../../v1/files/file-1", "x\nentry", "%2e%2e/flush", ""):
        status, shown = command("delete", hostile)
        assert (status, "entry must be the x-nearhit-entry" in shown) == (1, True)
        assert len(shown.splitlines()) == 1
    assert main(["stats", "--proxy", "http://127.0.0.1:9"]) == 1
    assert "got ConnectError from http://127.0.0.1:9" in capsys.readouterr().err


@pytest.mark.parametrize("path", ["feedback", "explain", "flush", "valves", "warm"])
@pytest.mark.parametrize(
    "body", [b'{"decision": NaN, "label": "a hidden word"}', b'["a hidden word"]', b"7"]
)
def test_body_of_no_use_is_refused_and_not_sent_back(
    proxy: Gateway, path: str, body: bytes
) -> None:
    got = proxy.client.post(
        f"/nearhit/{path}",
        content=body,
        headers={"authorization": "Bearer sk-admin", "content-type": "application/json"},
    )
    if path == "explain" and body.startswith(b"{"):  # which reads all that is an object
        assert (got.status_code, got.json()["outcome"]) == (200, "bypass")
    else:
        assert got.status_code == 422
    assert "hidden" not in got.text


def test_body_of_lone_surrogates_and_deep_ones_are_refused(proxy: Gateway) -> None:
    bodies = [
        b'{"text": "\\ud800"}',
        b'{"\\ud800": 1}',
        b'{"text": ' + b"[" * 900 + b"]" * 900 + b"}",
        b'{"all": true}' + b" " * 2**23,
    ]
    statuses = [
        proxy.client.post(
            "/nearhit/flush",
            content=body,
            headers={"authorization": "Bearer sk-admin", "content-type": "application/json"},
        ).status_code
        for body in bodies
    ]
    assert statuses[:2] in ([400, 400], [422, 422])  # LiteLLM reads it first, or FastAPI does
    assert statuses[2:] == [422, 413]


def test_what_is_looked_for_stays_out_of_the_access_log(proxy: Gateway) -> None:
    path = "entries?text=kettles+of+my+neighbour"
    assert call(proxy, "GET", path, "sk-alice").status_code == 200
    assert call(proxy, "GET", f"{path}&limit=x", "sk-alice").status_code == 422
    assert call(proxy, "GET", path, "nobody").status_code == 403
    written = proxy.server.printed()
    assert written.count('"GET /nearhit/entries HTTP') >= 3
    assert "kettles" not in written
