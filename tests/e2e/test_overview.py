"""Metrics, savings and settings of a real proxy, beside LiteLLM's own metrics and spend."""

import json
import re
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from gateway import MODEL, Gateway, Upstream, config_of, running
from nearhit.cli import main

QUESTION = "How do I enable two-factor authentication on my GitHub account?"
SAME = "How can I enable two-factor authentication on my GitHub account?"
DISABLE = "How do I disable two-factor authentication on my GitHub account?"
SECRET = "a secret of these tests"
NEARHIT = {"deadline_ms": 5000, "secret": SECRET}
CALLBACKS = ["recorder.recorder", "prometheus", "nearhit.hook.proxy_hook"]
DASHBOARD = Path(__file__).parents[2] / "examples" / "grafana.json"


@pytest.fixture(scope="module")
def counting(
    tmp_path_factory: pytest.TempPathFactory, upstream_server: str, real_artefacts: Path
) -> Iterator[Gateway]:
    config = config_of(upstream_server, nearhit=NEARHIT, litellm_settings={"callbacks": CALLBACKS})
    with running(tmp_path_factory.mktemp("overview"), config, real_artefacts) as gateway:
        yield gateway


@pytest.fixture
def proxy(counting: Gateway, upstream: Upstream, request: pytest.FixtureRequest) -> Gateway:
    counting.system = f"You serve {request.node.name}."
    return counting


def get(gateway: Gateway, path: str, key: str = "sk-admin", **query: Any) -> httpx.Response:
    headers = {"authorization": f"Bearer {key}"}
    return gateway.client.get(path, params=query, headers=headers, follow_redirects=True)


def samples(text: str) -> dict[str, float]:
    """Every sample of a text in Prometheus' format, by name and labels."""
    lines = [line for line in text.splitlines() if line and not line.startswith("#")]
    return {name: float(value) for name, value in (line.rsplit(" ", 1) for line in lines)}


def stats_when(gateway: Gateway, is_told: Any) -> Any:
    """The stats, as soon as they tell it: the ledger is written every second."""
    end = time.monotonic() + 15
    while not is_told(found := get(gateway, "/nearhit/stats").json()):
        assert time.monotonic() < end, found
        time.sleep(0.2)
    return found


def requests_of(stats: Any) -> int:
    return sum(row["requests"] for row in stats["tally"])


def test_metrics_are_in_litellms_endpoint_and_in_our_own(proxy: Gateway) -> None:
    before = samples(get(proxy, "/nearhit/metrics").text)
    proxy.learn(QUESTION)
    assert proxy.ask(SAME).kind == "semantic"
    assert proxy.ask(DISABLE).outcome == "miss"
    end = time.monotonic() + 30
    team = 'nearhit_team_requests_total{outcome="hit_semantic",team="red"}'
    while True:
        own = samples(get(proxy, "/nearhit/metrics").text)
        # What the store holds is counted every ten seconds.
        if own.get(team, 0) > before.get(team, 0) and own["nearhit_entries"] >= 1:
            break
        assert time.monotonic() < end, own
        time.sleep(0.1)
    theirs = samples(get(proxy, "/metrics/").text)
    assert set(own) <= set(theirs)
    assert all(name.startswith("nearhit_") for name in own)
    assert any(name.startswith("litellm_") for name in theirs)

    def grown(name: str) -> float:
        return own[name] - before.get(name, 0)

    assert grown('nearhit_requests_total{outcome="hit",reason="semantic"}') == 1
    assert grown('nearhit_similarity_count{outcome="hit"}') == 1
    assert grown('nearhit_confidence_bucket{le="0.3",outcome="hit"}') == 0
    assert grown('nearhit_confidence_count{outcome="miss"}') >= 1
    for stage in ("exact", "encode", "search", "verify"):
        assert grown(f'nearhit_stage_seconds_count{{stage="{stage}"}}') >= 2
    assert grown('nearhit_saved_usd_total{team="red"}') > 0
    assert grown('nearhit_spent_usd_total{team="red"}') > 0
    assert grown('nearhit_saved_tokens_total{kind="completion",team="red"}') > 0


def test_metrics_hold_no_text_and_hostile_clients_make_no_series(proxy: Gateway) -> None:
    assert proxy.ask("What is my account's zanzibar number?").outcome == "bypass"

    def rude(n: int) -> None:
        proxy.ask(f"zanzibar {n}", user=f"u{n}", headers={"x-nearhit": f"zanzibar-{n}"})
        proxy.ask(f"zanzibar {n}", metadata={"tags": [f"t{n}"], "team": f"zanzibar{n}"})
        proxy.ask(f"zanzibar {n}", headers={"x-litellm-call-id": "one and the same"})
        proxy.post({"model": f"zanzibar-{n}", "messages": proxy.messages("zanzibar")})
        proxy.post({"model": MODEL, "messages": [{"role": f"r{n}", "content": n}], "n": n})
        get(proxy, f"/nearhit/zanzibar-{n}")

    rude(0)
    time.sleep(2)
    before = set(samples(get(proxy, "/nearhit/metrics").text))
    for n in range(1, 6):
        rude(n)
    time.sleep(2)
    after = get(proxy, "/nearhit/metrics").text
    assert set(samples(after)) == before
    assert "zanzibar" not in after
    assert "alice" not in after


def test_dashboard_names_metrics_that_exist(proxy: Gateway) -> None:
    board = json.loads(DASHBOARD.read_text("utf-8"))
    asked = [target["expr"] for panel in board["panels"] for target in panel.get("targets", [])]
    assert len(asked) >= 10
    proxy.learn(QUESTION)
    proxy.ask(SAME)
    stats_when(proxy, requests_of)
    text = get(proxy, "/metrics/").text
    exist = {name.partition("{")[0] for name in samples(text)}
    exist |= {line.split()[2] for line in text.splitlines() if line.startswith("# TYPE")}
    for expression in asked:
        for name in re.findall(r"\bnearhit_\w+", expression):
            assert name in exist, expression


def test_savings_agree_with_what_litellm_logs(proxy: Gateway) -> None:
    def sums() -> dict[str, float]:
        lines = (proxy.folder / "record.jsonl").read_text().splitlines()
        logged = [json.loads(line) for line in lines]
        return {
            "saved": sum(one["saved_cache_cost"] for one in logged if one["cache_hit"]),
            "spent": sum(one["response_cost"] for one in logged),
            "hits": sum(bool(one["cache_hit"]) for one in logged),
        }

    proxy.learn(QUESTION)
    for key in ("sk-alice", "sk-bob"):
        proxy.ask(QUESTION, key=key, stream=True)
        proxy.ask(QUESTION, key=key)
    proxy.ask("What is the weather?", key="sk-bob")
    end = time.monotonic() + 15
    while True:
        logged, found = sums(), get(proxy, "/nearhit/stats").json()["savings"]
        total = found["total"]
        if total["hits"] == logged["hits"] and total["spent_usd"] == pytest.approx(logged["spent"]):
            break
        assert time.monotonic() < end, (logged, found)
        time.sleep(0.2)
    assert total["saved_usd"] == pytest.approx(logged["saved"])
    assert total["saved_usd"] > 0
    assert sum(one["saved_usd"] for one in found["keys"]) == pytest.approx(total["saved_usd"])
    assert "red" in {one["name"] for one in found["teams"]}
    assert all(re.fullmatch("[0-9a-f]{32}", one["name"]) for one in found["keys"])
    assert "alice" not in json.dumps(found)


def test_savings_outlive_the_proxy(
    tmp_path: Path,
    upstream: Upstream,
    real_artefacts: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    config = config_of(upstream.url, nearhit=NEARHIT)
    with running(tmp_path / "proxy", config, real_artefacts) as gateway:
        gateway.learn(QUESTION)
        before = stats_when(gateway, lambda found: found["savings"]["total"]["hits"])
    with running(tmp_path / "proxy", config, real_artefacts, is_warm=False) as gateway:
        after = stats_when(gateway, requests_of)
        assert after["savings"]["total"]["saved_usd"] >= before["savings"]["total"]["saved_usd"] > 0
        monkeypatch.setenv("NEARHIT_PROXY_KEY", "sk-admin")
        assert main(["stats", "--proxy", gateway.url]) == 0
        shown = capsys.readouterr().out
        assert re.search(r"saved by hits +\$0\.0\d+, [1-9]\d* tokens", shown), shown
        assert "team  red" in shown


def test_config_shows_settings_and_masks_the_secret(proxy: Gateway) -> None:
    found = get(proxy, "/nearhit/config")
    assert found.json()["deadline_ms"] == 5000
    assert found.json()["secret"] == "*" * 8
    assert SECRET not in found.text


def test_decisions_and_report_are_told_to_admins(proxy: Gateway) -> None:
    proxy.learn(QUESTION)
    assert proxy.ask(SAME).kind == "semantic"
    end = time.monotonic() + 15
    while True:
        found = get(proxy, "/nearhit/decisions", kind="hits").json()["decisions"]
        mine = [one for one in found if one["question"] == SAME]
        if mine:
            break
        assert time.monotonic() < end, found
        time.sleep(0.1)
    assert mine[0]["stored_question"] == QUESTION
    assert "Enable two-factor" in mine[0]["stored_answer"]
    assert "vector" not in mine[0]
    assert get(proxy, "/nearhit/decisions", kind="near").status_code == 200
    assert get(proxy, "/nearhit/decisions", kind="all").status_code == 422
    assert get(proxy, "/nearhit/report").json()["thresholds"]


@pytest.mark.parametrize("path", ["stats", "decisions", "report", "config", "metrics"])
def test_overview_is_closed_to_tenants_and_strangers(proxy: Gateway, path: str) -> None:
    assert get(proxy, f"/nearhit/{path}", "sk-alice").status_code == 403
    assert get(proxy, f"/nearhit/{path}", "sk-unknown").status_code == 401


def test_several_workers_count_together(
    tmp_path: Path, upstream: Upstream, real_artefacts: Path
) -> None:
    config = config_of(upstream.url, nearhit=NEARHIT, litellm_settings={"callbacks": CALLBACKS})
    with running(tmp_path / "proxy", config, real_artefacts, workers=2) as gateway:
        for n in range(12):
            # Each over a connection of its own, which any worker may take.
            with httpx.Client(base_url=gateway.url, timeout=60, trust_env=False) as client:
                gateway.client = client
                gateway.ask(f"How do I count to {n}?", key="sk-carol")
                found = samples(get(gateway, "/nearhit/metrics").text)
        missed = [found[name] for name in found if 'requests_total{outcome="miss"' in name]
        assert sum(missed) >= 12
