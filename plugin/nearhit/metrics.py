"""What is counted: Prometheus metrics in the process's default registry.

LiteLLM's own `/metrics` serves that registry where its `prometheus` callback is on; `exposition`
serves what is ours to `/nearhit/metrics`. Without the package `prometheus_client` nothing is
counted here. No label holds a text or key of a client, and each takes a bounded set of values.
"""

import importlib
import logging
import math
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Final

from nearhit.decision import Bypass, Hit, Miss, Outcome
from nearhit.evidence.ledger import OTHER, Sums

_log = logging.getLogger("nearhit")

PREFIX: Final = "nearhit_"
_MAX_TEAMS: Final = 100
_MAX_LABEL: Final = 64  # characters


class _Uncounted:
    """Stands for a metric where there is no Prometheus client."""

    def labels(self, *_: str) -> "_Uncounted":
        return self

    def inc(self, amount: float = 1) -> None:
        pass

    def set(self, value: float) -> None:
        pass

    def observe(self, amount: float) -> None:
        pass


try:
    _prometheus: Any = importlib.import_module("prometheus_client")
except ImportError:
    _prometheus = None


def _counter(name: str, meaning: str, labels: Sequence[str] = ()) -> Any:
    return _prometheus.Counter(PREFIX + name, meaning, labels) if _prometheus else _Uncounted()


def _gauge(
    name: str, meaning: str, labels: Sequence[str] = (), *, of_workers: str = "mostrecent"
) -> Any:
    if not _prometheus:
        return _Uncounted()
    # Most see the same store and journal in all workers: whoever looked last knows.
    return _prometheus.Gauge(PREFIX + name, meaning, labels, multiprocess_mode=of_workers)


def _histogram(
    name: str, meaning: str, buckets: Sequence[float], labels: Sequence[str] = ()
) -> Any:
    if not _prometheus:
        return _Uncounted()
    return _prometheus.Histogram(PREFIX + name, meaning, labels, buckets=buckets)


_SECONDS: Final = (0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5)

REQUESTS = _counter(
    "requests",
    "Chat requests by outcome (hit, shadow, miss, bypass) and by kind of hit or reason.",
    ["outcome", "reason"],
)
FAULTS = _counter(
    "faults",
    "Times that a part failed and the request went to the model, or an answer was not stored.",
    ["part", "reason"],
)
STORED = _counter("stored", "Answers stored.")
UNSTORED = _counter("unstored", "Answers that were not stored, by reason.", ["reason"])
ENTRIES = _gauge("entries", "Answers held, expired ones until they are swept.")
LOOKUP_SECONDS = _histogram(
    "lookup_seconds",
    "Time from the request to the decision, waiting for an identical question left out.",
    _SECONDS,
)
STAGE_SECONDS = _histogram(
    "stage_seconds", "Time of one stage of a look-up: exact, encode, search, verify.",
    _SECONDS, ["stage"],
)  # fmt: skip
SIMILARITY = _histogram(
    "similarity",
    "Cosine between a question and the stored one nearest to a hit; hits to the letter left out.",
    (0.3, 0.4, 0.5, 0.6, 0.7, 0.75, 0.8, 0.85, 0.9, 0.92, 0.94, 0.96, 0.98, 0.99, 1.0),
    ["outcome"],
)
CONFIDENCE = _histogram(
    "confidence",
    "Probability that the nearest stored answer serves; hits to the letter left out.",
    (0.01, 0.05, 0.1, 0.2, 0.3, 0.5, 0.7, 0.8, 0.9, 0.95, 0.98, 0.99, 0.995, 0.999, 1.0),
    ["outcome"],
)
TEAM_REQUESTS = _counter(
    "team_requests", "Answered chat requests by LiteLLM team and outcome.", ["team", "outcome"]
)
SAVED_USD = _counter(
    "saved_usd", "What the hits would have cost by LiteLLM's prices, US dollars.", ["team"]
)
SPENT_USD = _counter(
    "spent_usd", "What LiteLLM noted as the cost of chat requests, US dollars.", ["team"]
)
SAVED_TOKENS = _counter(
    "saved_tokens", "Tokens of answers that were served from the cache.", ["team", "kind"]
)
VERIFIED = _counter(
    "verified", "Hits that were put to the model again, by verdict.", ["verdict"]
)  # fmt: skip
LIVE_WRONG_SHARE = _gauge(
    "live_wrong_share",
    "Share of wrong answers among verified hits: value, and low and high of its 95 % interval.",
    ["bound"],
)
TIGHTENED = _gauge(
    "tightened_threshold",
    "Confidence from which verified hits let another wording hit; 0: they ask for no change.",
)
QUARANTINED = _gauge("quarantined", "Questions that an entry is kept from serving.")
VALVES_SHUT = _gauge(
    "valves_shut",
    "Tenants or entries for which a valve is shut or on trial, of all workers together.",
    ["valve"],
    of_workers="livesum",
)
VALVE_TRIPS = _counter("valve_trips", "Times that a valve shut, after a trial too.", ["valve"])

_teams: set[str] = set()


STORE_BYTES = _gauge("store_bytes", "Bytes of questions, answers and vectors held.")
STORE_REMOVED = _gauge(
    "store_removed",
    "Answers removed since the store was made: evicted, expired, flushed.",
    ["reason"],
)
HELD = ("bytes", "evicted", "expired", "flushed")


def count_held(stats: Mapping[str, int | str]) -> None:
    """Show what `Store.stats` says; NaN where a backend does not count."""
    STORE_BYTES.set(float(stats.get("bytes", math.nan)))
    for reason in HELD[1:]:
        STORE_REMOVED.labels(reason).set(float(stats.get(reason, math.nan)))


def count_outcome(outcome: Outcome, *, is_shadow: bool = False) -> None:
    """Count one request; in shadow mode a hit is not served."""
    match outcome:
        case Hit(kind=kind):
            name = "shadow" if is_shadow else "hit"
            REQUESTS.labels(name, kind).inc()
            if kind == "semantic":
                _observe(name, outcome.similarity, outcome.confidence)
        case Miss(reason=reason):
            REQUESTS.labels("miss", reason).inc()
            _observe("miss", outcome.similarity, outcome.confidence)
        case Bypass(reason=reason):
            REQUESTS.labels("bypass", reason).inc()


def _observe(outcome: str, similarity: float | None, confidence: float | None) -> None:
    if similarity is not None and confidence is not None:
        SIMILARITY.labels(outcome).observe(similarity)
        CONFIDENCE.labels(outcome).observe(confidence)


def count_sums(team: str, outcome: str, sums: Sums) -> None:
    """Count what one answered request cost and saved.

    Args:
        team: LiteLLM's id of it; "": none.
        outcome: as in the ledger, such as ``hit_exact``.
        sums: of the request.
    """
    label = team_label(team)
    TEAM_REQUESTS.labels(label, outcome).inc()
    SPENT_USD.labels(label).inc(sums.spent_usd)
    if outcome.startswith("hit_"):
        SAVED_USD.labels(label).inc(sums.saved_usd)
        SAVED_TOKENS.labels(label, "prompt").inc(sums.prompt_tokens)
        SAVED_TOKENS.labels(label, "completion").inc(sums.completion_tokens)


@contextmanager
def stage(name: str, noted: list[tuple[str, float, float]]) -> Iterator[None]:
    """Time one stage of a look-up, however it ends; note its name, start and seconds."""
    start = time.perf_counter()
    try:
        yield
    finally:
        took_s = time.perf_counter() - start
        STAGE_SECONDS.labels(name).observe(took_s)
        noted.append((name, start, took_s))


def team_label(team: str) -> str:
    """Return the label of a team: its id where it is among the first, `OTHER` where not.

    Whoever can make teams at will must not make time series at will.
    """
    label = team[:_MAX_LABEL]
    if label not in _teams:
        if len(_teams) >= _MAX_TEAMS:
            return OTHER
        _teams.add(label)
    return label


def exposition() -> tuple[bytes, str] | None:
    """Return our metrics in Prometheus' text format with its content type; None: not counted.

    Of all workers where `PROMETHEUS_MULTIPROC_DIR` is set, else of this one. Blocks on files.
    """
    if not _prometheus:
        return None
    registry = _prometheus.REGISTRY
    if "PROMETHEUS_MULTIPROC_DIR" in os.environ:
        registry = _prometheus.CollectorRegistry()
        importlib.import_module("prometheus_client.multiprocess").MultiProcessCollector(registry)
    return _prometheus.generate_latest(_Ours(registry)), str(_prometheus.CONTENT_TYPE_LATEST)


class _Ours:
    """The part of a registry that is ours."""

    def __init__(self, registry: Any) -> None:
        self._registry = registry

    def collect(self) -> Iterator[Any]:
        return (one for one in self._registry.collect() if one.name.startswith(PREFIX))


class FaultLog:
    """Counts every fault; logs each kind at most once in `every_s` seconds.

    A store that is down would otherwise write a line a request. The lines name part and reason
    and the error's type, never what the error says: its text may quote a prompt.
    """

    def __init__(
        self,
        every_s: float = 30.0,
        clock: Callable[[], float] = time.monotonic,
        consequence: str = "requests go to the model",
    ) -> None:
        self._every_s = every_s
        self._consequence = consequence
        self._clock = clock
        self._next: dict[tuple[str, str], float] = {}

    def record(self, part: str, reason: str, error: BaseException | None = None) -> None:
        """Count a fault of `part`; log it unless the same was logged just now."""
        FAULTS.labels(part, reason).inc()
        now = self._clock()
        if now < self._next.get((part, reason), 0.0):
            return
        self._next[part, reason] = now + self._every_s
        name = type(error).__name__ if error is not None else "-"
        _log.warning("%s failed (%s, %s); %s", part, reason, name, self._consequence)
