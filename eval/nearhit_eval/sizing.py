"""Bytes an entry takes, measured in the embedded engine, and what that makes of many entries.

    python -m nearhit_eval.sizing --entries 20000 --answer-bytes 1000

Twice as many entries as `--entries` are put; what counts is the difference between the two halves,
so the constant part of the process and the write-ahead log are left out. Answers are random
letters, which the engine's compression cannot shrink: text of a model takes less. The engine is the
server's own (Qdrant Edge), but its one segment is still open to writes: what a server has optimised
takes less memory.
"""

import argparse
import math
import random
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from uuid import UUID

import numpy as np

from nearhit.store.base import Entry
from nearhit.store.engine import Engine

DIMENSION: Final = 384
SIZES: Final = (10**6, 10**8, 10**9)
NODE_GB: Final = 128
# Source: qdrant.tech/documentation/guides/capacity-planning, "Calculating RAM size": half as much
# again, for indexes, versions of points and the segments that an optimisation works on.
ROOM: Final = 1.5
# Source: github.com/qdrant/skills, "memory usage": above 80 % resident is the sign of a problem.
USABLE: Final = 0.8
COPIES: Final = 2
_LETTERS: Final = np.frombuffer(b"abcdefghijklmnopqrstuvwxyz ABCDEFGHIJKLMNOPQRSTUVWXYZ", np.uint8)
_A_SCOPE: Final = 8  # entries

EIGHT_BITS: Final = "vectors in 8 bits"


@dataclass(frozen=True, slots=True)
class PerEntry:
    """Bytes of one entry: in memory beside the vector, and on the disk by part."""

    heap: float
    disk: dict[str, float]


def measure(entries: int, answer_bytes: int) -> PerEntry:
    """Put twice as many entries and return what the second half took."""
    rng = np.random.default_rng(1)
    with tempfile.TemporaryDirectory(prefix="nearhit-sizing-") as scratch:
        engine = Engine.open(Path(scratch), DIMENSION)
        halves = []
        for start in (0, entries):
            for number in range(start, start + entries):
                engine.put(_entry(number, answer_bytes, rng))
            engine.save()
            halves.append((_heap(), _disk(Path(scratch))))
        engine.close()
    (heap, disk), (heap_after, disk_after) = halves
    return PerEntry(
        heap=(heap_after - heap) / entries,
        disk={
            part: (disk_after[part] - disk.get(part, 0)) / entries
            for part in disk_after
            if part != "log"
        },
    )


def rows(one: PerEntry) -> list[tuple[str, ...]]:
    """Return the table: a row for each number of entries and each kind of vector in memory."""
    table: list[tuple[str, ...]] = []
    for size in SIZES:
        for kind, width in (("none", 2), ("int8", 1)):
            memory = size * (DIMENSION * width * ROOM + one.heap) / 1e9
            # A server keeps vectors in 8 bits only where it is told to.
            kept = sum(took for part, took in one.disk.items() if part != EIGHT_BITS)
            kept += DIMENSION if kind == "int8" else 0
            disk = size * kept * ROOM / 1e9
            nodes = max(3, math.ceil(COPIES * memory / (NODE_GB * USABLE)))
            table.append((f"{size:,}", kind, f"{memory:,.1f}", f"{disk:,.0f}", f"{nodes}"))
    return table


def main(argv: Sequence[str] | None = None) -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="python -m nearhit_eval.sizing")
    parser.add_argument("--entries", type=int, default=20_000)
    parser.add_argument("--answer-bytes", type=int, default=1000)
    options = parser.parse_args(argv)
    one = measure(options.entries, options.answer_bytes)
    print(f"answer {options.answer_bytes} bytes, {DIMENSION} dimensions in half precision")
    print(f"memory beside the vectors  {one.heap:7.0f} bytes an entry")
    for part, size in sorted(one.disk.items(), key=lambda item: -item[1]):
        print(f"disk, {part:<20} {size:7.0f}")
    print(f"disk, all                  {sum(one.disk.values()):7.0f}\n")
    print(f"| entries | quantization | memory GB | disk GB | nodes of {NODE_GB} GB, two copies |")
    print("| --- | --- | --- | --- | --- |")
    for row in rows(one):
        print("| " + " | ".join(row) + " |")
    return 0


def _entry(number: int, answer_bytes: int, rng: np.random.Generator) -> Entry:
    vector = rng.standard_normal(DIMENSION, dtype=np.float32)
    return Entry(
        id=UUID(int=random.Random(number).getrandbits(128), version=5),  # noqa: S311 - no secret
        scope=f"{number // _A_SCOPE:064x}",
        fingerprint="f" * 64,
        text="How do I enable two-factor authentication on my own account?",
        completion=rng.choice(_LETTERS, answer_bytes).tobytes().decode(),
        model="gpt-4o-mini",
        created_at=1_000_000 + number,
        expires_at=2**40 + number,
        epoch=0,
        signature=f"{number:064x}",
        vector=np.asarray(vector / np.linalg.norm(vector), dtype=np.float32),
    )


def _heap() -> int:
    """Bytes of this process that no file backs. Linux only."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("RssAnon"):
            return 1024 * int(line.split()[1])
    raise OSError("no RssAnon in /proc/self/status")


def _disk(folder: Path) -> dict[str, int]:
    """Bytes in use by part; files are sparse, so blocks are counted."""
    sizes: dict[str, int] = {}
    for path in (path for path in folder.rglob("*") if path.is_file()):
        parts = path.parts
        part = "ids and the rest"
        for name, says in (
            ("wal", "log"),
            ("vector_storage", "vectors"),
            ("quantized_data", EIGHT_BITS),
            ("payload_storage", "question and answer"),
            ("payload_index", "indexes"),
        ):
            part = says if name in parts else part
        sizes[part] = sizes.get(part, 0) + 512 * path.stat().st_blocks
    return sizes


if __name__ == "__main__":
    sys.exit(main())
