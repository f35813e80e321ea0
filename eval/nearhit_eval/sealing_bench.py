"""What `store.prompts` costs a request: microseconds to seal one answer and to open what is read.

    python eval/nearhit_eval/sealing_bench.py

By size of the answer, a question of 60 characters, one tenant: medians and the slowest of a hundred
of 200 rounds. `seal` is off the request path; a hit to the letter opens one entry, other words
`candidates`, three. The signature, which every entry has, is not in it.
"""

import argparse
import json
import statistics
import sys
import time
import uuid
from collections.abc import Callable, Sequence
from functools import partial

from nearhit.sealing import Prompts, Seal
from nearhit.store import Entry

ROUNDS = 200
SIZES = (300, 1_500, 10_000, 100_000)
SECRET = b"a secret of this installation 0123456789"


def entry_of(size: int) -> Entry:
    """An entry whose answer has about so many characters."""
    return Entry(
        id=uuid.uuid4(),
        scope="ab" * 32,
        fingerprint="",
        text="How do I descale a kettle with vinegar without a lasting smell"[:60],
        completion=json.dumps({"choices": [{"message": {"content": "word " * (size // 5)}}]}),
        model="gpt-4o-mini",
        created_at=1,
        expires_at=2,
        epoch=0,
        signature="ab" * 32,
        tenant="cd" * 16,
    )


def micros(work: Callable[[], object]) -> str:
    """Time a call; return its median and 99th percentile in microseconds."""
    took = []
    for _ in range(ROUNDS):
        start = time.perf_counter_ns()
        work()
        took.append((time.perf_counter_ns() - start) / 1000)
    return f"{statistics.median(took):8.1f} {sorted(took)[int(0.99 * ROUNDS) - 1]:8.1f}"


def main(argv: Sequence[str] | None = None) -> int:
    """Measure and print; return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.parse_args(argv)
    print(f"{'prompts':<10} {'answer':>8} {'seal us':>8} {'p99':>8} {'open us':>8} {'p99':>8}")
    modes: tuple[Prompts, ...] = ("full", "encrypted", "hashed")
    for prompts in modes:
        for size in SIZES:
            seal = Seal(prompts, SECRET)
            entry = seal.conform(entry_of(size))
            sealed = seal.seal(entry)
            sealing, opening = micros(partial(seal.seal, entry)), micros(partial(seal.open, sealed))
            print(f"{prompts:<10} {size:>8} {sealing} {opening}")
    fresh = micros(lambda: Seal("encrypted", SECRET).lock("", "a tenant", ""))
    print(f"{'first text of a tenant, with its key':<36} {fresh}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
