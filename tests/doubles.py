"""Stand-ins that the tests share: an encoder whose vectors can be computed by eye, a clock."""

import asyncio
import dataclasses
import itertools
import math
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from uuid import UUID

import numpy as np

from nearhit.encoder import Encoding, Unencodable, Vector
from nearhit.errors import EncoderError
from nearhit.evidence.journal import Decision, new_id
from nearhit.store import Entry, Neighbour
from nearhit.store.base import Browse, Listing, Page, Search, rank
from nearhit.store.engine import Engine
from nearhit.store.eviction import Bounds

DIMENSION = 8
NOW = 4_000_000_000


def vector_at(degrees: float) -> Vector:
    """A unit vector whose cosine to `vector_at(0)` is the cosine of the angle."""
    vector = np.zeros(DIMENSION, dtype=np.float32)
    vector[0], vector[1] = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    return vector


class InProcessStore:
    """The engine itself as a `Store`: no process, no socket."""

    def __init__(self, data_dir: Path, bounds: Bounds | None = None) -> None:
        data_dir.mkdir(exist_ok=True)
        self.engine = Engine.open(data_dir, DIMENSION)
        self.engine.bounds = bounds or Bounds()
        self._upkeep: asyncio.Task[None] | None = None

    async def get(self, entry_id: UUID, now: int) -> Entry | None:
        return self.engine.get(entry_id, now)

    async def search(
        self, scope: str, fingerprint: str, vector: Vector, limit: int, now: int
    ) -> list[Neighbour]:
        search = Search(scope, fingerprint, vector, limit, now)
        return rank(self.engine.search(search), search, self.engine.era)

    async def put(self, entry: Entry) -> None:
        self.engine.put(entry)
        self._begin()

    async def touch(self, entry_id: UUID, hits: int, now: int) -> None:
        self.engine.touch(entry_id, hits, now)

    async def delete(self, ids: Sequence[UUID]) -> None:
        self.engine.delete(ids)

    async def browse(self, browse: Browse) -> Listing:
        return self.engine.browse(browse)

    async def stale(self, fingerprint: str, after: UUID | None, limit: int, now: int) -> Page:
        return self.engine.stale(fingerprint, after, limit, now)

    async def exchange(self, signature: str, entry: Entry) -> bool:
        return self.engine.exchange(signature, entry)

    async def flush(self, before: int | None = None) -> int:
        return self.engine.flush(before)

    async def epoch(self) -> int:
        return self.engine.era.epoch

    async def count(self) -> int:
        return self.engine.count()

    async def stats(self) -> Mapping[str, int | str]:
        self._begin()
        return dataclasses.asdict(self.engine.stats(pid=0))

    def _begin(self) -> None:
        self._upkeep = self._upkeep or asyncio.create_task(self._keep_up())

    async def _keep_up(self) -> None:
        while True:
            while self.engine.tend(int(time.time())):  # noqa: ASYNC110 - a pause, no poll
                await asyncio.sleep(0)
            await asyncio.sleep(0.02)

    async def close(self) -> None:
        if self._upkeep is not None:
            self._upkeep.cancel()
        self.engine.close()


class FakeEncoder:
    """Gives each text the angle that the test names; None: it has no vector."""

    fingerprint = "fake"
    dimension = DIMENSION

    def __init__(self, degrees: Mapping[str, float | None]) -> None:
        self.degrees = dict(degrees)
        self.encoded: list[str] = []
        self.error: EncoderError | None = None

    async def encode(self, text: str, owner: str = "") -> Encoding:
        if self.error is not None:
            raise self.error
        self.encoded.append(text)
        degrees = self.degrees[text]
        return Unencodable("unknown_tokens") if degrees is None else vector_at(degrees)

    async def close(self) -> None:
        self.error = EncoderError("closed")


class FakeVerifier:
    """Tells what the test says of each stored text."""

    fingerprint = "told"

    def __init__(self, told: dict[str, float]) -> None:
        self.told = told
        self.asked: list[str] = []

    def floor(self, confidence: float) -> float:
        return 0.5 if confidence < 0.999 else 0.6

    def threshold(self, target_precision: float) -> float:
        return target_precision

    async def confidences(
        self, asked: str, stored: Sequence[str], similarities: Sequence[float]
    ) -> list[float]:
        self.asked += stored
        return [self.told[text] for text in stored]

    async def close(self) -> None:
        """Hold nothing."""


_SERIAL = itertools.count()


def decision(confidence: float = 0.99, **changes: Any) -> Decision:
    """A served hit whose question stands at 10 degrees."""
    values: dict[str, Any] = {
        "id": new_id(),
        "at": NOW,
        "kind": "served",
        "tenant": "alice",
        "decider": "d",
        "entry": "e",
        "question": f"how to revert a commit {next(_SERIAL)}",
        "stored_question": "how to undo a commit",
        "similarity": 0.98,
        "confidence": confidence,
        "veto": "",
        "stored_answer": "Use git revert.",
        "fresh_answer": "",
        "vector": vector_at(10).astype(np.float16).tobytes(),
    }
    return Decision(**{**values, **changes})


class Clock:
    """Time that stands still until it is moved."""

    def __init__(self, now: float = NOW) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now
