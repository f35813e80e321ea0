"""What is counted. Prometheus counters in the process's default registry.

LiteLLM's own `/metrics` serves that registry where its `prometheus` callback is on.
"""

import logging
import math
import time
from collections.abc import Callable, Mapping
from typing import Any, Final

from prometheus_client import Counter, Gauge, Histogram

from nearhit.decision import Bypass, Hit, Miss, Outcome

_log = logging.getLogger("nearhit")

# One store for all workers of a machine: their gauges say the same and must not be added up.
_OF_ALL_WORKERS: Final[dict[str, Any]] = {"multiprocess_mode": "mostrecent"}

REQUESTS = Counter(
    "nearhit_requests",
    "Chat requests by outcome (hit, shadow, miss, bypass) and by kind of hit or reason.",
    ["outcome", "reason"],
)
FAULTS = Counter(
    "nearhit_faults",
    "Times that a part failed and the request went to the model, or an answer was not stored.",
    ["part", "reason"],
)
STORED = Counter("nearhit_stored", "Answers stored.")
UNSTORED = Counter("nearhit_unstored", "Answers that were not stored, by reason.", ["reason"])
LOOKUP_SECONDS = Histogram(
    "nearhit_lookup_seconds",
    "Time from the request to the decision, waiting for an identical question left out.",
    buckets=(0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5),
)
VERIFIED = Counter(
    "nearhit_verified", "Hits that were put to the model again, by verdict.", ["verdict"]
)
LIVE_WRONG_SHARE = Gauge(
    "nearhit_live_wrong_share",
    "Share of wrong answers among verified hits: value, and low and high of its 95 % interval.",
    ["bound"],
)
TIGHTENED = Gauge(
    "nearhit_tightened_threshold",
    "Confidence from which verified hits let another wording hit; 0: they ask for no change.",
)
QUARANTINED = Gauge("nearhit_quarantined", "Questions that an entry is kept from serving.")


STORE_BYTES = Gauge(
    "nearhit_store_bytes", "Bytes of questions, answers and vectors held.", **_OF_ALL_WORKERS
)
STORE_REMOVED = Gauge(
    "nearhit_store_removed",
    "Answers removed since the store was made: evicted, expired, flushed.",
    ["reason"],
    **_OF_ALL_WORKERS,
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
        case Hit(kind=kind) if is_shadow:
            REQUESTS.labels("shadow", kind).inc()
        case Hit(kind=kind):
            REQUESTS.labels("hit", kind).inc()
        case Miss(reason=reason):
            REQUESTS.labels("miss", reason).inc()
        case Bypass(reason=reason):
            REQUESTS.labels("bypass", reason).inc()


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
