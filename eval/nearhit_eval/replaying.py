"""Run a stream through the cache that serves, in virtual time, once for each combination.

A threshold decides what is stored, because only a miss is; so each combination of threshold and
life is a cache of its own over an empty store. What encoder and verifier say of a text or a pair
depends on neither: both are asked once and remembered.
"""

import heapq
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final
from uuid import UUID

from nearhit.cache import Cache, Lookup
from nearhit.config import Settings
from nearhit.decision import Hit, Miss
from nearhit.encoder import Encoder, Encoding
from nearhit.matching import Verifier
from nearhit.store.embedded import EmbeddedStore
from nearhit.store.eviction import Bounds
from nearhit_eval.observing import SECRET, question_of
from nearhit_eval.traffic import Asked

TIERS: Final = ("exact", "semantic", "coalesced")
_AHEAD_S: Final = 86_400


class RememberedEncoder:
    """An `Encoder` that encodes a text once; its owner closes the one behind it."""

    def __init__(self, encoder: Encoder) -> None:
        self._encoder = encoder
        self._known: dict[str, Encoding] = {}

    @property
    def fingerprint(self) -> str:
        """See `Encoder`."""
        return self._encoder.fingerprint

    @property
    def dimension(self) -> int:
        """See `Encoder`."""
        return self._encoder.dimension

    async def encode(self, text: str, owner: str = "") -> Encoding:
        """See `Encoder`."""
        if text not in self._known:
            self._known[text] = await self._encoder.encode(text)
        return self._known[text]

    async def close(self) -> None:
        """Keep what is behind it open for the next cache."""


class RememberedVerifier:
    """A `Verifier` that reads a pair once; its owner closes the one behind it."""

    def __init__(self, verifier: Verifier) -> None:
        self._verifier = verifier
        self._known: dict[tuple[str, str], float] = {}

    @property
    def fingerprint(self) -> str:
        """See `Verifier`."""
        return self._verifier.fingerprint

    def floor(self, confidence: float) -> float:
        """See `Verifier`."""
        return self._verifier.floor(confidence)

    def threshold(self, target_precision: float) -> float:
        """See `Verifier`."""
        return self._verifier.threshold(target_precision)

    async def confidences(
        self, asked: str, stored: Sequence[str], similarities: Sequence[float]
    ) -> list[float]:
        """See `Verifier`."""
        new = [i for i, text in enumerate(stored) if (asked, text) not in self._known]
        told = await self._verifier.confidences(
            asked, [stored[i] for i in new], [similarities[i] for i in new]
        )
        self._known |= {(asked, stored[i]): sure for i, sure in zip(new, told, strict=True)}
        return [self._known[asked, text] for text in stored]

    async def close(self) -> None:
        """Keep what is behind it open for the next cache."""


@dataclass(slots=True)
class Slice:
    """What happened in one part of the stream's time.

    Attributes:
        end_s: when it ends.
        asked: questions.
        hits: by tier.
        labelled: of these, those whose question and stored question are both labelled.
        wrong: of these, those of two clusters, by tier.
        input_tokens: that the model did not read.
        output_tokens: that the model did not write.
        live: entries that may still be served at its end.
    """

    end_s: float
    asked: int = 0
    hits: dict[str, int] = field(default_factory=lambda: dict.fromkeys(TIERS, 0))
    labelled: dict[str, int] = field(default_factory=lambda: dict.fromkeys(TIERS, 0))
    wrong: dict[str, int] = field(default_factory=lambda: dict.fromkeys(TIERS, 0))
    input_tokens: int = 0
    output_tokens: int = 0
    live: int = 0


@dataclass(frozen=True, slots=True)
class WrongHit:
    """An answer of another cluster that was served."""

    stored: str
    asked: str
    kind: str
    similarity: float
    confidence: float


@dataclass(frozen=True, slots=True)
class Replayed:
    """One combination: its slices, reasons of what was not served, wrong hits, entries held."""

    slices: tuple[Slice, ...]
    reasons: dict[str, int]
    wrong: tuple[WrongHit, ...]
    held: int


@dataclass(frozen=True, slots=True)
class Pace:
    """How time passes: seconds that the model takes, and slices of the stream's time."""

    answer_s: float
    slices: int


async def replay(
    stream: Sequence[Asked],
    settings: Settings,
    encoder: RememberedEncoder,
    verifier: RememberedVerifier | None,
    folder: Path,
    pace: Pace,
    tick: Callable[[], object],
) -> Replayed:
    """Ask everything in order; an answer is stored when the model would have given it.

    A repeat of a question whose answer is on its way counts as coalesced, as in the proxy, where
    it would wait for that answer; virtual time lets nobody wait.

    Args:
        stream: timed, in order.
        settings: in force, but for deadline and coalescing.
        encoder: stays open.
        verifier: the same, or None.
        folder: empty, for the store.
        pace: of the virtual time.
        tick: called after each question.
    """
    replayed = _Replay(stream, settings, pace)
    store = EmbeddedStore(
        folder,
        dimension=encoder.dimension,
        bounds=Bounds(settings.store.max_entries, settings.store.max_bytes),
    )
    calm = {"deadline_ms": 10_000, "coalesce_wait_s": 0.0, "data_dir": folder}
    quiet = settings.model_copy(update=calm)
    cache = Cache(quiet, SECRET, store, encoder, verifier, clock=replayed.clock)
    try:
        for index in range(len(stream)):
            await replayed.ask(cache, index)
            tick()
        await replayed.land(cache, math.inf)
        return replayed.result(await store.count())
    finally:
        await cache.close()


class _Replay:
    """The state of one combination: virtual time, answers on their way, what was counted."""

    def __init__(self, stream: Sequence[Asked], settings: Settings, pace: Pace) -> None:
        self._stream = stream
        self._settings = settings
        self._answer_s = pace.answer_s
        # Ahead of the real clock: the store's sweeper reads that, and must find nothing expired.
        self._begin = int(time.time()) + _AHEAD_S
        self._now = 0.0
        self._end = stream[-1].time_s or 0.0
        self._slices = [Slice(self._end * (i + 1) / pace.slices) for i in range(pace.slices)]
        self._reasons: dict[str, int] = {}
        self._wrong: list[WrongHit] = []
        self._due: list[tuple[float, int, Lookup]] = []
        self._in_flight: dict[UUID, tuple[float, int]] = {}
        self._lives: list[tuple[float, float]] = []

    def clock(self) -> float:
        """Return the virtual time as Unix seconds."""
        return self._begin + self._now

    async def land(self, cache: Cache, until: float) -> None:
        """Store the answers that are given by then."""
        while self._due and self._due[0][0] <= until:
            self._now, index, lookup = heapq.heappop(self._due)
            cache.keep(lookup, str(index))
            await cache.settle()
            self._in_flight.pop(lookup.question.id, None)
            self._lives.append((self._now, int(self._now) + self._settings.ttl_s))

    async def ask(self, cache: Cache, index: int) -> None:
        """Ask the next question and count what becomes of it."""
        one = self._stream[index]
        await self.land(cache, one.time_s or 0.0)
        self._now = one.time_s or 0.0
        part = self._slice()
        part.asked += 1
        question = question_of(one.text, "replay", self._settings)
        if isinstance(question, str):
            self._reasons[question] = self._reasons.get(question, 0) + 1
            return
        ends, owner = self._in_flight.get(question.id, (math.inf, 0))
        lookup = await cache.answer(question)
        match lookup.outcome:
            case Hit(entry, kind, similarity, confidence):
                self._count(part, one, int(entry.completion), (kind, similarity, confidence))
            case Miss() if ends - self._now <= self._settings.coalesce_wait_s:
                self._count(part, one, owner, ("coalesced", 1.0, 1.0))
            case Miss(reason):
                self._reasons[reason] = self._reasons.get(reason, 0) + 1
                ends = self._now + self._answer_s
                heapq.heappush(self._due, (ends, index, lookup))
                self._in_flight[question.id] = ends, index
        await cache.settle()

    def result(self, held: int) -> Replayed:
        """Return what was counted."""
        for part in self._slices:
            part.live = sum(kept <= part.end_s < gone for kept, gone in self._lives)
        return Replayed(tuple(self._slices), self._reasons, tuple(self._wrong), held)

    def _slice(self) -> Slice:
        share = self._now / self._end if self._end else 1.0
        return self._slices[min(int(share * len(self._slices)), len(self._slices) - 1)]

    def _count(self, part: Slice, one: Asked, owner: int, served: tuple[str, float, float]) -> None:
        kind, similarity, confidence = served
        stored = self._stream[owner]
        part.hits[kind] += 1
        part.input_tokens += one.input_tokens
        part.output_tokens += one.output_tokens
        if one.cluster is None or stored.cluster is None:
            return
        part.labelled[kind] += 1
        if one.cluster != stored.cluster:
            part.wrong[kind] += 1
            self._wrong.append(WrongHit(stored.text, one.text, kind, similarity, confidence))
