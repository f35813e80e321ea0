"""How a look-up and the store's size grow with its entries, for one tenant and for many.

    python -m nearhit_eval.growth FOLDER --start 0 --stop 1000 --tenants 1   # loads, nothing more

The search is timed through the embedded store and its process, as the cache calls it. Entries are
loaded by `Engine.put`, the store's own write without its socket, in a process of their own. The
vectors are random: topics of eight neighbours with a cosine of .64, asked for with a cosine of .94
to one of them, which is about what questions and their rewordings have.
"""

import argparse
import asyncio
import fcntl
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final
from uuid import UUID

import numpy as np
from tqdm import tqdm

from nearhit.errors import ConfigError, StoreError
from nearhit.store.base import Entry, Vector
from nearhit.store.embedded import EmbeddedStore
from nearhit.store.engine import Engine
from nearhit.store.folder import LOCK
from nearhit_eval.processes import resident_mb

DIMENSION: Final = 384
TENANTS: Final = (1, 1000)
QUERIES: Final = 100
_LIMIT: Final = 3  # `candidates`, as the cache asks
_CHUNK: Final = 1000
_TOPIC: Final = 8
_SPREAD = 0.75  # of a topic: a cosine of .64 between its entries
_REWORDED = 0.35  # of a query: a cosine of .94 to its entry
_NOW: Final = 1_000_000
_SAVE_EVERY: Final = 10_000  # bounds the write-ahead log
_FINGERPRINT: Final = "f" * 64
_TEXT: Final = "How do I enable two-factor authentication on my account? ({})"
_COMPLETION: Final = '{"choices": [{"message": {"content": "' + "word " * 80 + '"}}]}'


@dataclass(frozen=True, slots=True)
class Grown:
    """One store of a size: medians of the look-up, and what it takes."""

    entries: int
    tenants: int
    lookup_ms: float
    lookup_p99_ms: float
    recall: float
    resident_mb: float
    disk_mb: float
    load_s: float


def measure(sizes: Sequence[int], seed: int, tenants: Sequence[int] = TENANTS) -> list[Grown]:
    """Grow a store for each number of tenants from size to size and time it at each.

    Raises:
        ConfigError: A size cannot be loaded.
    """
    check_sizes(sizes)
    grown: list[Grown] = []
    steps = [(count, size) for count in tenants for size in sorted(set(sizes))]
    with tempfile.TemporaryDirectory(prefix="nearhit-growth-") as scratch:
        held = dict.fromkeys(tenants, 0)
        for count, size in tqdm(steps, desc="growth", unit="store", disable=None):
            folder = Path(scratch) / str(count)
            began = time.perf_counter()
            _load_in_child(folder, held[count], size, count, seed)
            took_s = time.perf_counter() - began
            held[count] = size
            grown.append(asyncio.run(_time(folder, size, count, seed, took_s)))
    return grown


def check_sizes(sizes: Sequence[int]) -> None:
    """Refuse sizes that cannot be loaded.

    Raises:
        ConfigError: Names the rule.
    """
    if any(size < _CHUNK or size % _CHUNK for size in sizes):
        raise ConfigError(
            f"`--sizes` must be multiples of {_CHUNK}, got {list(sizes)}; try 1000 10000"
        )


def rows(grown: Sequence[Grown]) -> list[dict[str, Any]]:
    """Return the figures as JSON objects."""
    return [asdict(one) for one in grown]


def main(argv: Sequence[str] | None = None) -> int:
    """Load entries `--start` to `--stop` into a store that nobody serves."""
    parser = argparse.ArgumentParser(prog="python -m nearhit_eval.growth")
    parser.add_argument("folder", type=Path)
    for name in ("start", "stop", "tenants", "seed"):
        parser.add_argument(f"--{name}", type=int, required=True)
    options = parser.parse_args(argv)
    options.folder.mkdir(mode=0o700, exist_ok=True)
    engine = Engine.open(options.folder, DIMENSION)
    for first in range(options.start, options.stop, _CHUNK):
        for number, vector in enumerate(_vectors(first // _CHUNK, options.seed), first):
            engine.put(_entry(number, options.tenants, vector))
        if first % _SAVE_EVERY == 0:
            engine.save()
    engine.close()
    return 0


def _load_in_child(folder: Path, start: int, stop: int, tenants: int, seed: int) -> None:
    """Load in a process of its own: the engine holds its interpreter lock."""
    options = {"start": start, "stop": stop, "tenants": tenants, "seed": seed}
    command = [sys.executable, "-m", "nearhit_eval.growth", str(folder)]
    command += [f"--{name}={value}" for name, value in options.items()]
    done = subprocess.run(command, check=False)  # noqa: S603 - our own interpreter and module
    if done.returncode:
        raise StoreError(f"the load of {stop} entries must end with status 0, see above")


async def _time(folder: Path, size: int, tenants: int, seed: int, load_s: float) -> Grown:
    """Look up through a store process that has just opened the folder."""
    rng = np.random.default_rng([seed, size, tenants])
    numbers = rng.integers(size, size=QUERIES)
    queries = np.stack([_query(int(number), seed, rng) for number in numbers])
    exact = _exact(queries, numbers, size, tenants, seed)
    store = EmbeddedStore(folder, DIMENSION, start_timeout_s=120)
    took, right = [], 0
    try:
        pid = int((await store.stats())["pid"])
        for turn in range(-10, QUERIES):  # the first ones find the caches cold
            scope = _scope(int(numbers[turn]), tenants)
            began = time.perf_counter()
            found = await store.search(scope, _FINGERPRINT, queries[turn], _LIMIT, _NOW)
            if turn >= 0:
                took.append(1000 * (time.perf_counter() - began))
                # Half precision may exchange two that are equally near.
                right += bool(found) and found[0].similarity >= exact[turn] - 1e-3
        memory_mb = resident_mb([pid])
    finally:
        await store.close()
    _stop(folder, pid)
    return Grown(
        entries=size,
        tenants=tenants,
        lookup_ms=statistics.median(took),
        lookup_p99_ms=float(np.percentile(took, 99)),
        recall=float(right) / QUERIES,
        resident_mb=memory_mb,
        disk_mb=_disk_mb(folder),
        load_s=load_s,
    )


def _exact(
    queries: Vector, numbers: np.ndarray[Any, Any], size: int, tenants: int, seed: int
) -> Vector:
    """Cosine of the nearest entry of each query's tenant, by looking at every one."""
    nearest = np.full(len(queries), -1.0, dtype=np.float32)
    tenant = (numbers // _TOPIC) % tenants
    for first in range(0, size, _CHUNK):
        cosines = queries @ _vectors(first // _CHUNK, seed).T
        theirs = (np.arange(first, first + _CHUNK) // _TOPIC) % tenants
        cosines[tenant[:, None] != theirs[None, :]] = -1.0
        nearest = np.maximum(nearest, cosines.max(axis=1))
    return nearest


def _vectors(chunk: int, seed: int) -> Vector:
    """Vectors of a thousand entries, float32 `(1000, 384)`, rows of unit length."""
    rng = np.random.default_rng([seed, chunk])
    topics = rng.standard_normal((_CHUNK // _TOPIC, DIMENSION), dtype=np.float32)
    noise = rng.standard_normal((_CHUNK, DIMENSION), dtype=np.float32)
    vectors = np.repeat(topics, _TOPIC, axis=0) + _SPREAD * noise
    return np.asarray(vectors / np.linalg.norm(vectors, axis=1, keepdims=True), dtype=np.float32)


def _query(number: int, seed: int, rng: np.random.Generator) -> Vector:
    """An entry's vector in other words, float32 `(384,)`, unit length."""
    vector = _vectors(number // _CHUNK, seed)[number % _CHUNK]
    noise = rng.standard_normal(DIMENSION, dtype=np.float32) / np.sqrt(DIMENSION)
    vector = vector + _REWORDED * noise
    return np.asarray(vector / np.linalg.norm(vector), dtype=np.float32)


def _entry(number: int, tenants: int, vector: Vector) -> Entry:
    return Entry(
        id=UUID(int=number + 1),
        scope=_scope(number, tenants),
        fingerprint=_FINGERPRINT,
        text=_TEXT.format(number),
        completion=_COMPLETION,
        model="scripted",
        created_at=_NOW + number,
        expires_at=2**40 + number,
        epoch=0,
        signature="0" * 64,
        vector=vector,
    )


def _scope(number: int, tenants: int) -> str:
    """A whole topic belongs to one tenant."""
    return f"{(number // _TOPIC) % tenants:064x}"


def _stop(folder: Path, pid: int) -> None:
    """End the store process and wait until it has let go of the folder."""
    os.kill(pid, signal.SIGTERM)
    with (folder / LOCK).open("rb") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)


def _disk_mb(folder: Path) -> float:
    """Blocks in use: the engine's files are sparse."""
    files = [path for path in folder.rglob("*") if path.is_file()]
    return sum(512 * path.stat().st_blocks for path in files) / 2**20


if __name__ == "__main__":
    sys.exit(main())
