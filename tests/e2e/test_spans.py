"""Spans of look-ups in a real proxy that writes LiteLLM's own spans to its output."""

import json
import time
from pathlib import Path
from typing import Any

import pytest

from gateway import MODEL, Gateway, Upstream, config_of, running

QUESTION = "How do I descale a kettle with vinegar?"
SAME = "What is the way to descale a kettle with vinegar?"
MASTER = "sk-master-of-these-tests-0123456789"
LOADING = ("no_encoder", "deadline", "store_failed", "starting")
TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"


def spans_of(gateway: Gateway) -> list[dict[str, Any]]:
    """The spans that stand, each as a JSON object over several lines, among what is printed."""
    decoder, text, spans, at = json.JSONDecoder(), gateway.server.printed(), [], 0
    while (at := text.find('{\n    "name":', at)) >= 0:
        try:
            span, at = decoder.raw_decode(text, at)
        except ValueError:  # not all of it is written yet
            break
        spans.append(span)
    return spans


@pytest.mark.timeout(420)
def test_look_up_has_spans_under_litellms_own_that_tell_nothing_of_the_question(
    tmp_path: Path, upstream: Upstream, real_artefacts: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OTEL_EXPORTER", "console")
    monkeypatch.setenv("OTEL_BSP_SCHEDULE_DELAY", "200")
    config = config_of(
        upstream.url, nearhit={"similarity_threshold": 0.9, "deadline_ms": 5000, "scope": "global"}
    )
    config["litellm_settings"]["callbacks"] += ["otel"]
    del config["general_settings"]["custom_auth"]  # with it LiteLLM gives a request no span
    with running(tmp_path / "one", config, real_artefacts, is_warm=False) as one:
        end = time.monotonic() + 90
        while one.ask(f"Is it warm at {time.time()}?", key=MASTER).reason in LOADING:
            assert time.monotonic() < end
            time.sleep(0.2)
        one.learn(QUESTION, key=MASTER)
        hit = one.ask(SAME, key=MASTER, headers={"traceparent": f"00-{TRACE}-00f067aa0ba902b7-01"})
        assert (hit.outcome, hit.kind) == ("hit", "semantic")
        while True:
            spans = spans_of(one)
            traced = [s for s in spans if s["context"]["trace_id"] == f"0x{TRACE}"]
            by_name = {span["name"]: span for span in traced}
            if {"nearhit.lookup", "Received Proxy Server Request"} <= set(by_name):
                break
            assert time.monotonic() < end, sorted(by_name)
            time.sleep(0.2)
    lookup, request = by_name["nearhit.lookup"], by_name["Received Proxy Server Request"]
    assert lookup["parent_id"] == request["context"]["span_id"]
    told = lookup["attributes"]
    assert (told["nearhit.outcome"], told["nearhit.kind"]) == ("hit", "semantic")
    assert 0.9 <= told["nearhit.similarity"] <= 1
    assert told["nearhit.confidence"] == told["nearhit.similarity"]
    for name in ("exact", "encode", "search", "verify"):
        stage = by_name[f"nearhit.{name}"]
        assert stage["parent_id"] == lookup["context"]["span_id"]
        assert lookup["start_time"] <= stage["start_time"] <= stage["end_time"]
        assert stage["end_time"] <= lookup["end_time"]
        assert not stage["attributes"]
    assert request["start_time"] <= lookup["start_time"]
    ours = [span for span in spans if span["name"].startswith("nearhit.")]
    assert {s["attributes"].get("nearhit.reason") for s in ours} >= {"nothing_near"}
    printed = json.dumps(ours)
    assert all(word not in printed for word in ("kettle", "vinegar", MASTER, MODEL))
