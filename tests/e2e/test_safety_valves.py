"""Safety valves in a real proxy: what makes them shut, who is told, and what opens them."""

import json
import re
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from gateway import Gateway, Reply, Upstream, config_of, running
from nearhit.cli import main

ENABLE = "How do I enable two-factor authentication on my GitHub account?"
OTHERS = [
    f"How {can} I {turn} two-factor authentication on my GitHub account?"
    for can in ("can", "could", "should", "do", "may", "might")
    for turn in ("enable", "activate", "set up")
]
# By cosine alone, so that one entry answers much.
FOOLED = {"similarity_threshold": 0.85, "guards": [], "deadline_ms": 5000}
VALVES = {
    "hit_ratio": 0.5,
    "min_requests": 10,
    "questions_per_entry": 3,
    "min_wrong": 2,
    "retry_after_s": 600,
    "trial_hits": 2,
}
WRONG = {"x-nearhit-feedback": "wrong"}


@pytest.fixture(scope="module")
def valved(
    tmp_path_factory: pytest.TempPathFactory, upstream_server: str, real_artefacts: Path
) -> Iterator[Gateway]:
    config = config_of(upstream_server, nearhit={**FOOLED, "valves": VALVES})
    with running(tmp_path_factory.mktemp("valves"), config, real_artefacts) as gateway:
        yield gateway


@pytest.fixture
def proxy(valved: Gateway, upstream: Upstream, request: pytest.FixtureRequest) -> Gateway:
    valved.system = f"You serve {request.node.name}."
    return valved


def admin(gateway: Gateway, method: str, path: str, body: Any = None) -> Any:
    headers = {"authorization": "Bearer sk-admin"}
    got = gateway.client.request(method, f"/nearhit/{path}", json=body, headers=headers)
    got.raise_for_status()
    return got.json()


def shut(gateway: Gateway, valve: str) -> list[Any]:
    return [one for one in admin(gateway, "GET", "valves")["shut"] if one["valve"] == valve]


def until(ask: Callable[[], Reply], reason: str) -> Reply:
    """Ask until a miss has this reason: labels are known within a second or two."""
    end = time.monotonic() + 15
    while (seen := ask()).reason != reason:
        assert time.monotonic() < end, (seen.outcome, seen.headers)
        time.sleep(0.1)
    return seen


def test_hub_is_held_alone_and_opens_by_command(
    proxy: Gateway,
    upstream: Upstream,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    hub = proxy.learn(ENABLE, key="sk-dave")
    answers = [proxy.ask(text, key="sk-dave") for text in OTHERS[:3]]
    assert [one.kind for one in answers] == ["semantic"] * 3
    assert answers[0].text == hub.text
    held = proxy.ask(OTHERS[3], key="sk-dave")
    assert (held.outcome, held.reason) == ("miss", "valve_questions_per_entry")
    assert held.text != hub.text
    assert "detail=valve_questions_per_entry" in held.headers["cache-status"]
    assert proxy.ask(ENABLE, key="sk-dave").kind == "exact"
    (one,) = shut(proxy, "questions_per_entry")
    assert one["of"] == answers[0].headers["x-nearhit-entry"]
    # The model's own answer to what was withheld is an entry like any, and serves.
    end = time.monotonic() + 10
    while (other := proxy.ask(OTHERS[4], key="sk-dave")).outcome != "hit":
        assert time.monotonic() < end
        time.sleep(0.05)
    assert other.headers["x-nearhit-entry"] != one["of"]
    assert admin(proxy, "GET", "stats")["valves"][0]["valve"] == "questions_per_entry"
    log = (proxy.folder / "proxy.log").read_text("utf-8", "replace")
    assert log.count(f"valve questions_per_entry is shut for entry {one['of']}") == 1
    metrics = httpx.get(
        f"{proxy.url}/nearhit/metrics", headers={"authorization": "Bearer sk-admin"}
    ).text
    assert 'nearhit_valves_shut{valve="questions_per_entry"} 1.0' in metrics
    assert 'nearhit_valve_trips_total{valve="questions_per_entry"} 1.0' in metrics

    monkeypatch.setenv("NEARHIT_PROXY_KEY", "sk-admin")

    def command(*words: str) -> str:
        capsys.readouterr()
        assert main([*words, "--proxy", proxy.url]) == 0
        return capsys.readouterr().out

    told = f"valve questions_per_entry shut since 20.* for {one['of']}: one entry answered"
    for listing in ("valves", "stats"):
        assert re.search(told, command(listing))
    assert json.loads(command("valves", "--json"))["bounds"]["questions_per_entry"] == 3
    command("valves", "--open", "questions_per_entry", "--of", one["of"])
    assert shut(proxy, "questions_per_entry") == []
    opened = proxy.ask(OTHERS[5], key="sk-dave")
    assert opened.kind == "semantic"


def test_hit_ratio_shuts_for_one_key_alone_and_exact_goes_on(
    proxy: Gateway, upstream: Upstream
) -> None:
    first = {key: proxy.learn(ENABLE, key=key) for key in ("sk-bob", "sk-carol")}
    asked = [proxy.ask(OTHERS[0], key="sk-bob", stream=n % 2 == 0) for n in range(20)]
    assert asked[0].kind == "semantic"
    assert asked[-1].outcome == "hit"  # what was withheld is stored, and repeated to the letter
    assert [one.reason for one in asked if one.outcome == "miss"] == ["valve_hit_ratio"]
    assert proxy.ask(OTHERS[1], key="sk-bob").reason == "valve_hit_ratio"
    assert proxy.ask(ENABLE, key="sk-bob").text == first["sk-bob"].text
    assert proxy.ask(OTHERS[1], key="sk-carol").text == first["sk-carol"].text
    (one,) = shut(proxy, "hit_ratio")
    assert "(bound 50 %) were hits" in one["why"]
    for body in ({"open": "hit_ratio", "of": "../x"}, {"open": "all", "of": one["of"]}, {}):
        got = proxy.client.post(
            "/nearhit/valves", json=body, headers={"authorization": "Bearer sk-admin"}
        )
        assert got.status_code == 422
    for method in ("GET", "POST"):
        got = proxy.client.request(
            method,
            "/nearhit/valves",
            json={"open": "all"} if method == "POST" else None,
            headers={"authorization": "Bearer sk-bob"},
        )
        assert got.status_code == 403
    assert shut(proxy, "hit_ratio") == [one]
    admin(proxy, "POST", "valves", {"open": "all"})
    assert proxy.ask(OTHERS[2], key="sk-bob").kind == "semantic"


def test_trial_serves_a_few_and_shuts_again(
    tmp_path: Path, upstream: Upstream, real_artefacts: Path
) -> None:
    valves = {**VALVES, "hit_ratio": None, "retry_after_s": 5}
    config = config_of(upstream.url, nearhit={**FOOLED, "valves": valves})
    with running(tmp_path / "trial", config, real_artefacts) as gateway:
        gateway.learn(ENABLE)
        seen = [gateway.ask(text) for text in OTHERS[1:4]]
        assert [one.kind for one in seen] == ["semantic"] * 3
        assert gateway.ask(OTHERS[4]).reason == "valve_questions_per_entry"
        # The model's answer to it would serve what is asked below.
        admin(gateway, "POST", "flush", {"text": OTHERS[4]})
        time.sleep(5)
        trial = [gateway.ask(text) for text in OTHERS[5:8]]
        assert [one.kind for one in trial[:2]] == ["semantic"] * 2
        assert trial[2].reason == "valve_questions_per_entry"


def test_wrong_answers_shut_for_their_key_at_all_workers_and_a_person_opens_all(
    tmp_path: Path, upstream: Upstream, real_artefacts: Path
) -> None:
    valves = {"min_wrong": 2, "retry_after_s": 600}
    config = config_of(upstream.url, nearhit={**FOOLED, "valves": valves})
    with running(tmp_path / "wrong", config, real_artefacts, workers=2) as gateway:
        headers = {"authorization": "Bearer sk-admin"}

        def each(text: str, key: str) -> list[dict[str, Any]]:
            """What would become of a question; a connection each, so that both are asked."""
            found = []
            for _ in range(8):
                with httpx.Client(base_url=gateway.url, timeout=60, trust_env=False) as client:
                    body = {"model": "gpt-4o-mini", "messages": gateway.messages(text)}
                    got = client.post(
                        "/nearhit/explain",
                        json=body,
                        headers={"authorization": f"Bearer {key}"},
                    )
                    found.append(got.json())
            return found

        for key in ("sk-alice", "sk-bob"):
            gateway.learn(ENABLE, key=key)
        for text in OTHERS[1:3]:
            assert gateway.ask(text).kind == "semantic"
            complained = gateway.ask(text, headers=WRONG)
            assert (complained.outcome, complained.reason) == ("miss", "feedback")
        until(lambda: gateway.ask(OTHERS[12]), "valve_wrong_share")
        time.sleep(2.5)
        told = each(OTHERS[13], "sk-alice")
        assert [one.get("reason") for one in told] == ["valve_wrong_share"] * 8
        assert {one["outcome"] for one in each(OTHERS[13], "sk-bob")} == {"hit"}
        opening = {"open": "wrong_share"}
        gateway.client.post("/nearhit/valves", json=opening, headers=headers).raise_for_status()
        time.sleep(2.5)
        assert {one["outcome"] for one in each(OTHERS[13], "sk-alice")} == {"hit"}
