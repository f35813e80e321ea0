"""Measure what metrics and ledger cost one request, in CPU time.

    python examples/counting.py [--requests 20000]

Does all that is done for one semantic hit and nothing else: four stages, the look-up, the outcome
with similarity and confidence, the sums of the account, and, as every second in the proxy, the
ledger on disk. Prints microseconds a request: the fastest, the median and the slowest of five runs.
"""

import argparse
import statistics
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from uuid import uuid4

from nearhit import metrics
from nearhit.decision import Hit
from nearhit.evidence import ledger
from nearhit.evidence.journal import Journal
from nearhit.request import tenant_digest
from nearhit.store import Entry

RUNS = 5
A_SECOND = 100  # requests between two writes of the ledger
KEYS = 50


def one_request(hit: Hit, key: str, pending: dict[ledger.Account, ledger.Sums]) -> None:
    """Count one request as the proxy does."""
    noted: list[tuple[str, float, float]] = []
    for name in ("exact", "encode", "search", "verify"):
        with metrics.stage(name, noted):
            pass
    metrics.LOOKUP_SECONDS.observe(0.01)
    metrics.count_outcome(hit)
    payload = {
        "response_cost": 0.0,
        "saved_cache_cost": 0.0001,
        "prompt_tokens": 100,
        "completion_tokens": 50,
        "startTime": 1.0,
        "endTime": 1.1,
    }
    sums = ledger.sums_of(payload, "hit_semantic")
    account = (tenant_digest(["key", key], b"secret"), "red", "gpt-4o-mini", "hit_semantic")
    ledger.add(pending, account, sums)
    metrics.count_sums("red", "hit_semantic", sums)


def run(requests: int, journal: Journal) -> float:
    """Return the CPU time of one request, in microseconds."""
    entry = Entry(uuid4(), "scope", "f", "question", "{}", "model", 1, 2, 0, "signature")
    hit = Hit(entry, "semantic", 0.97, 0.995)
    pending: dict[ledger.Account, ledger.Sums] = {}
    start = time.process_time()
    for n in range(requests):
        one_request(hit, f"key {n % KEYS}", pending)
        if n % A_SECOND == A_SECOND - 1:
            journal.book(pending, time.time())
            pending.clear()
    return 1e6 * (time.process_time() - start) / requests


def main(argv: Sequence[str] | None = None) -> int:
    """Run and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--requests", type=int, default=20_000)
    options = parser.parse_args(argv)
    with tempfile.TemporaryDirectory() as folder:
        journal = Journal(Path(folder))
        took = sorted(run(options.requests, journal) for _ in range(RUNS))
        journal.close()
    print(
        f"metrics and ledger of one semantic hit: {took[0]:.0f} us at best, "
        f"{statistics.median(took):.0f} us in the median, {took[-1]:.0f} us at worst"
    )
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
