"""Shadow mode, verification, feedback and calibration in a real proxy with a scripted judge."""

import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from gateway import Gateway, Upstream, config_of, running
from nearhit.cli import main
from nearhit.evidence.journal import Decision, Journal

ENABLE = "How do I enable two-factor authentication on my GitHub account?"
SAME = "How can I enable two-factor authentication on my GitHub account?"
DISABLE = "How do I disable two-factor authentication on my GitHub account?"
# By cosine alone, so that near misses are served: what the judge is there to find.
FOOLED = {
    "similarity_threshold": 0.6,
    "guards": [],
    "deadline_ms": 5000,
    "verify_sample": 1.0,
    "evidence": {"judge": "judge", "verify_per_hour": 1000},
}


@pytest.fixture(scope="module")
def fooled(
    tmp_path_factory: pytest.TempPathFactory, upstream_server: str, real_artefacts: Path
) -> Iterator[Gateway]:
    config = config_of(upstream_server, nearhit=FOOLED)
    with running(tmp_path_factory.mktemp("fooled"), config, real_artefacts) as gateway:
        yield gateway


@pytest.fixture(scope="module")
def shadow(
    tmp_path_factory: pytest.TempPathFactory, upstream_server: str, real_artefacts: Path
) -> Iterator[Gateway]:
    config = config_of(upstream_server, nearhit={**FOOLED, "mode": "shadow"})
    with running(tmp_path_factory.mktemp("shadow"), config, real_artefacts) as gateway:
        yield gateway


def decisions(gateway: Gateway, about: Callable[[Decision], bool], count: int) -> list[Decision]:
    """Wait until so many decisions of a kind are written."""
    end = time.monotonic() + 15
    while time.monotonic() < end:
        journal = Journal(gateway.folder / "data")
        found = [one for one in journal.recent(1000) if about(one)]
        journal.close()
        if len(found) >= count:
            return found
        time.sleep(0.05)
    raise AssertionError(f"{len(found)} of {count} decisions: {found}")


def asked_until(gateway: Gateway, text: str, reason: str, **fields: Any) -> None:
    """Ask until a miss has this reason: what was found is known within seconds."""
    end = time.monotonic() + 15
    while (seen := gateway.ask(text, **fields)).reason != reason:
        assert time.monotonic() < end, (seen.outcome, seen.headers)
        time.sleep(0.05)


def stored_in_shadow(gateway: Gateway, text: str) -> None:
    end = time.monotonic() + 15
    while gateway.ask(text).outcome != "shadow":
        assert time.monotonic() < end
        time.sleep(0.05)


@pytest.mark.parametrize("stream", [False, True])
def test_shadow_mode_serves_nothing_and_says_what_it_would_have_served(
    shadow: Gateway, upstream: Upstream, stream: bool
) -> None:
    shadow.system = f"You answer, stream {stream}."
    stored_in_shadow(shadow, ENABLE)
    before = upstream.count
    exact, other = shadow.ask(ENABLE, stream=stream), shadow.ask(SAME, stream=stream)
    assert upstream.count >= before + 2
    assert (exact.outcome, exact.kind) == ("shadow", "exact")
    assert (other.outcome, other.kind) == ("shadow", "semantic")
    assert f"(answer {before + 1})" in exact.text
    assert "age" not in other.headers
    assert "x-litellm-response-cost" not in other.headers or float(
        other.headers["x-litellm-response-cost"]
    )


def test_shadow_report_shows_both_answers_of_what_would_have_been_wrong(
    shadow: Gateway,
    upstream: Upstream,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    shadow.system = "You answer for the report."
    upstream.script(texts={"judge": "WRONG"})
    stored_in_shadow(shadow, ENABLE)
    assert shadow.ask(DISABLE).outcome == "shadow"
    (seen,) = decisions(shadow, lambda one: one.question == DISABLE and one.judge == "wrong", 1)
    assert "Enable two-factor" in seen.stored_answer
    assert "Disable next to" in seen.fresh_answer
    monkeypatch.setenv("NEARHIT_DATA_DIR", str(shadow.folder / "data"))
    capsys.readouterr()
    end = time.monotonic() + 15  # the tally is written every two seconds
    while True:
        assert main(["report", str(shadow.folder / "config.yaml"), "--json"]) == 0
        report = json.loads(capsys.readouterr().out)
        if report["requests"].get("shadow_semantic"):
            break
        assert time.monotonic() < end, report
        time.sleep(0.1)
    assert report["worst"][0]["question"] == DISABLE
    assert sum(counted[1] for counted in report["tokens"].values()) > 0
    assert main(["report", str(shadow.folder / "config.yaml")]) == 0
    text = capsys.readouterr().out
    assert f"new     {DISABLE}" in text
    assert "model's Open Settings, choose Password" in text


def test_wrong_hit_is_found_by_the_judge_and_not_served_again(
    fooled: Gateway, upstream: Upstream
) -> None:
    fooled.system = "You answer, and are verified."
    fooled.learn(ENABLE)
    upstream.script(texts={"judge": "WRONG"})
    wrong = fooled.ask(DISABLE)
    assert (wrong.outcome, wrong.kind) == ("hit", "semantic")
    (found,) = decisions(fooled, lambda one: one.id == wrong.headers["x-nearhit-decision"], 1)
    asked_until(fooled, DISABLE, "quarantine", stream=True)
    (found,) = decisions(fooled, lambda one: one.id == found.id, 1)
    assert (found.judge, found.sampled) == ("wrong", True)
    assert "Disable next to" in found.fresh_answer
    # The entry still serves its own question.
    assert fooled.ask(ENABLE).kind == "exact"


def test_right_hit_is_verified_and_stays(fooled: Gateway, upstream: Upstream) -> None:
    fooled.system = "You answer rightly."
    fooled.learn(ENABLE)
    upstream.script(texts={"judge": "RIGHT"})
    hit = fooled.ask(SAME)
    name = hit.headers["x-nearhit-decision"]
    decisions(fooled, lambda one: one.id == name and one.judge == "right", 1)
    assert fooled.ask(SAME).outcome == "hit"


def test_model_that_fails_in_a_verification_costs_no_answer(
    fooled: Gateway, upstream: Upstream
) -> None:
    fooled.system = "You answer while the model is down."
    fooled.learn(ENABLE)
    upstream.script(status=500)
    for _ in range(3):
        hit = fooled.ask(SAME)
        assert (hit.status, hit.outcome) == (200, "hit")


def test_client_who_says_wrong_gets_the_models_answer_and_keeps_it(
    fooled: Gateway, upstream: Upstream
) -> None:
    fooled.system = "You answer to complaints."
    fooled.learn(ENABLE)
    upstream.script(texts={"judge": "no verdict"})
    assert "enable" in fooled.ask(DISABLE).text.lower()
    again = fooled.ask(DISABLE, headers={"x-nearhit-feedback": "wrong"})
    assert (again.outcome, again.reason) == ("miss", "feedback")
    assert "Disable next to" in again.text
    end = time.monotonic() + 10
    while (stored := fooled.ask(DISABLE)).kind != "exact":
        assert time.monotonic() < end, stored.headers
    assert "Disable next to" in stored.text
    # Another wording of it finds the entry that is right, not the one that was wrong.
    other = fooled.ask("How do I disable two-factor auth on my GitHub account?")
    assert other.kind == "semantic"
    assert "Disable next to" in other.text


def test_client_who_says_wrong_of_an_exact_repeat_has_it_replaced(
    fooled: Gateway, upstream: Upstream
) -> None:
    fooled.system = "You answer anew."
    first = fooled.learn(ENABLE)
    again = fooled.ask(ENABLE, headers={"x-nearhit-feedback": "wrong"})
    assert again.reason == "feedback"
    assert again.text != first.text
    end = time.monotonic() + 10
    while fooled.ask(ENABLE).text != again.text:
        assert time.monotonic() < end


def test_feedback_by_api_is_for_the_key_that_was_served_and_for_admins(
    fooled: Gateway, upstream: Upstream
) -> None:
    fooled.system = "You answer, and are told."
    fooled.learn(ENABLE)
    upstream.script(texts={"judge": "no verdict"})
    name = fooled.ask(DISABLE).headers["x-nearhit-decision"]
    decisions(fooled, lambda one: one.id == name, 1)

    def tell(key: str, **body: str) -> httpx.Response:
        headers = {"authorization": f"Bearer {key}"}
        return fooled.client.post("/nearhit/feedback", json=body, headers=headers)

    assert tell("sk-bob", decision=name, label="wrong").status_code == 404
    assert tell("sk-unknown", decision=name, label="wrong").status_code == 401
    assert tell("sk-alice", decision="0" * 32, label="wrong").status_code == 404
    assert tell("sk-alice", decision=name, label="bad").status_code == 422
    assert tell("sk-alice", decision="../" + name, label="wrong").status_code == 422
    assert fooled.ask(DISABLE).outcome == "hit"
    assert tell("sk-alice", decision=name, label="wrong").status_code == 200
    assert fooled.ask(DISABLE).reason == "quarantine"
    assert tell("sk-admin", decision=name, label="right").status_code == 200
    assert fooled.ask(DISABLE, key="sk-alice").reason != "quarantine"


def test_word_of_one_of_several_who_share_answers_gets_it_a_fresh_one_and_changes_nothing(
    tmp_path: Path, upstream: Upstream, real_artefacts: Path
) -> None:
    config = config_of(upstream.url, nearhit={**FOOLED, "verify_sample": 0.0, "scope": "team"})
    with running(tmp_path / "shared", config, real_artefacts) as gateway:
        first = gateway.learn(ENABLE, key="sk-bob")
        for question, stored in ((ENABLE, first.text), (DISABLE, first.text)):
            assert gateway.ask(question, key="sk-bob").text == stored
            complaint = {"x-nearhit-feedback": "wrong"}
            fresh = gateway.ask(question, key="sk-alice", headers=complaint)
            assert (fresh.outcome, fresh.reason) == ("bypass", "feedback")
            assert fresh.text != stored
            assert gateway.ask(question, key="sk-bob").text == stored
        (seen,) = decisions(gateway, lambda one: one.kind == "complaint", 1)
        assert (seen.question, seen.client, seen.label) == (DISABLE, "wrong", "")


def test_calibrate_has_the_proxy_judge_what_has_no_label_and_pays_for_none_twice(
    fooled: Gateway,
    upstream: Upstream,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    fooled.system = "You answer and are calibrated."
    fooled.learn(ENABLE)
    upstream.script(texts={"judge": "no verdict"})
    name = fooled.ask(SAME).headers["x-nearhit-decision"]
    decisions(fooled, lambda one: one.id == name and one.sampled, 1)
    monkeypatch.setenv("NEARHIT_DATA_DIR", str(fooled.folder / "data"))
    monkeypatch.setenv("NEARHIT_PROXY_KEY", "sk-alice")
    command = ["calibrate", str(fooled.folder / "config.yaml"), "--proxy", fooled.url]
    upstream.script(texts={"judge": "RIGHT"})
    capsys.readouterr()
    assert main([*command, "--judge", "judge", "--yes"]) == 1
    first = capsys.readouterr()
    assert "decisions to be judged by judge: about" in first.out
    assert "no threshold keeps a precision of 0.99" in first.out
    (found,) = decisions(fooled, lambda one: one.id == name, 1)
    assert found.label == "right"
    before = upstream.count
    assert main([*command, "--judge", "judge", "--yes"]) == 1
    assert upstream.count == before
