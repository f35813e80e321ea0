"""OpenTelemetry spans of look-ups, where LiteLLM's own are on (`callbacks: ["otel"]`).

    nearhit.lookup                     outcome, kind or reason, similarity, confidence
      nearhit.exact  .encode  .search  .verify     the stages that were come to, with their times

They go where LiteLLM's go, by its tracer, under its span of the request. A span tells nothing of
what was asked, answered, or by whom. Made when the look-up is over, from times that were noted
anyway: where LiteLLM has no tracer this costs one look at an attribute.
"""

import sys
import time
from collections.abc import Mapping
from typing import Any, Final

from nearhit.cache import Lookup
from nearhit.decision import Hit

PREFIX: Final = "nearhit."
_NS: Final = 1_000_000_000


def tracer() -> Any:
    """Return LiteLLM's tracer; None where it has none: then OpenTelemetry may not be installed."""
    proxy_server = sys.modules.get("litellm.proxy.proxy_server")
    return getattr(getattr(proxy_server, "open_telemetry_logger", None), "tracer", None)


def trace(
    tracer: Any, key: Any, headers: Mapping[str, str], lookup: Lookup, *, is_shadow: bool
) -> None:
    """Write the spans of a look-up that has just ended.

    Args:
        tracer: LiteLLM's.
        key: who asked, as LiteLLM's authentication says; it carries the request's span.
        headers: of the request; a `traceparent` counts where LiteLLM has no span of it.
        lookup: of this request.
        is_shadow: whether a hit is not served.
    """
    from opentelemetry.trace import set_span_in_context

    ahead_ns = time.time_ns() - time.perf_counter_ns()
    span = tracer.start_span(
        PREFIX + "lookup",
        context=_context(key, headers),
        start_time=_wall_ns(lookup.began, ahead_ns),
        attributes={PREFIX + name: value for name, value in _told(lookup, is_shadow).items()},
    )
    within = set_span_in_context(span)
    for name, began, took_s in lookup.stages:
        start = _wall_ns(began, ahead_ns)
        stage = tracer.start_span(PREFIX + name, context=within, start_time=start)
        stage.end(_wall_ns(began + took_s, ahead_ns))
    span.end()


def _context(key: Any, headers: Mapping[str, str]) -> Any:
    """Where the spans belong, in the order that LiteLLM looks for it; None: in the context."""
    from opentelemetry.trace import get_current_span, set_span_in_context
    from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

    parent = getattr(key, "parent_otel_span", None)
    if parent is not None:
        return set_span_in_context(parent)
    if get_current_span().get_span_context().is_valid:
        return None
    return TraceContextTextMapPropagator().extract(headers)


def _told(lookup: Lookup, is_shadow: bool) -> dict[str, str | float]:
    outcome = lookup.outcome
    told: dict[str, str | float] = {}
    if isinstance(outcome, Hit):
        told |= {"outcome": "shadow" if is_shadow else "hit", "kind": outcome.kind}
    else:
        told |= {"outcome": "miss", "reason": outcome.reason}
    for name in ("similarity", "confidence"):
        value = getattr(outcome, name)
        if value is not None:
            told[name] = float(value)
    return told


def _wall_ns(at: float, ahead_ns: int) -> int:
    """Unix nanoseconds of a time by `time.perf_counter`."""
    return int(at * _NS) + ahead_ns
