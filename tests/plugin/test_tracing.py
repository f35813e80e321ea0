"""Spans of look-ups by OpenTelemetry's own SDK, with its exporter in memory."""

import sys
import time
from collections.abc import Iterator
from types import ModuleType, SimpleNamespace

import pytest
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import Tracer

from nearhit import tracing
from nearhit.cache import Lookup
from nearhit.decision import Miss
from nearhit.request import Policy, Question, read
from nearhit.tracing import trace

TEXT = "how to undo a commit"


@pytest.fixture
def lookup() -> Lookup:
    body = {"model": "m", "messages": [{"role": "user", "content": TEXT}]}
    policy = Policy(max_turns=4, max_temperature=1.0, freshness=None)
    question = read(body, ("key", "alice"), policy, b"a secret of this installation")
    assert isinstance(question, Question)
    found = Lookup(question, Miss("below_threshold", 0.8, 0.25))
    found.stages.append(("exact", time.perf_counter(), 0.001))
    return found


@pytest.fixture
def exporter() -> InMemorySpanExporter:
    return InMemorySpanExporter()


@pytest.fixture
def tracer(exporter: InMemorySpanExporter) -> Iterator[Tracer]:
    """What LiteLLM has where `callbacks` names `otel`."""
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    yield provider.get_tracer("litellm")
    provider.shutdown()


def test_miss_has_its_reason_and_stages_under_the_span_of_the_request(
    exporter: InMemorySpanExporter, tracer: Tracer, lookup: Lookup
) -> None:
    parent = tracer.start_span("request")
    trace(tracer, SimpleNamespace(parent_otel_span=parent), {}, lookup, is_shadow=False)
    stage, span = exporter.get_finished_spans()
    assert (stage.name, span.name) == ("nearhit.exact", "nearhit.lookup")
    assert span.parent == parent.get_span_context()
    assert stage.parent == span.get_span_context()
    assert dict(span.attributes or {}) == {
        "nearhit.outcome": "miss",
        "nearhit.reason": "below_threshold",
        "nearhit.similarity": 0.8,
        "nearhit.confidence": 0.25,
    }
    assert stage.start_time is not None
    assert stage.end_time is not None
    assert stage.end_time - stage.start_time == pytest.approx(1e6, rel=0.01)
    assert abs(stage.start_time - time.time_ns()) < 60e9
    assert TEXT not in stage.to_json() + span.to_json()


def test_traceparent_counts_where_litellm_has_no_span_of_the_request(
    exporter: InMemorySpanExporter, tracer: Tracer, lookup: Lookup
) -> None:
    headers = {"traceparent": "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"}
    trace(tracer, SimpleNamespace(parent_otel_span=None), headers, lookup, is_shadow=False)
    trace(
        tracer,
        SimpleNamespace(parent_otel_span=None),
        {"traceparent": "x"},
        lookup,
        is_shadow=False,
    )
    _, named, _, unnamed = exporter.get_finished_spans()
    assert named.context is not None
    assert named.context.trace_id == 0x4BF92F3577B34DA6A3CE929D0E0E4736
    assert unnamed.parent is None


def test_there_is_no_tracer_where_litellm_traces_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    name = "litellm.proxy.proxy_server"
    monkeypatch.delitem(sys.modules, name, raising=False)
    assert tracing.tracer() is None
    monkeypatch.setitem(sys.modules, name, ModuleType(name))
    assert tracing.tracer() is None
