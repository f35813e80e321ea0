"""Look-up and storing, from top to bottom. Knows no gateway: questions in, outcomes out.

    answer   one request: exact tier, then encoder, search and decision, then coalescing
    keep     one complete answer, off the request path

`answer` never raises and never takes longer than the deadline (waiting for an identical
question apart): whatever breaks, the outcome is a miss whose reason says what.
"""

import asyncio
import math
import time
from collections import deque
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field, replace
from uuid import UUID

from nearhit.config import Settings
from nearhit.decision import Candidate, Hit, Miss
from nearhit.directives import Directives
from nearhit.encoder import Encoder, Unencodable, Vector
from nearhit.errors import ConfigError, EncoderBusy, EncoderError, StoreBusy, StoreError
from nearhit.evidence.watch import Watch
from nearhit.flights import Flight, Flights
from nearhit.matching import Verifier, judge, weigh
from nearhit.metrics import ENTRIES, LOOKUP_SECONDS, STORED, UNSTORED, FaultLog, stage
from nearhit.reembed import encode_in_turn
from nearhit.request import Question
from nearhit.sealing import Seal, digest_of, hashed, is_of
from nearhit.signing import is_authentic, sign
from nearhit.store import Entry, Store
from nearhit.store.base import Browse, Listing
from nearhit.valves import Valves

# Off the request path nothing waits for it; a hung store must still not pile up tasks.
_WRITE_TIMEOUT_S = 10.0
_NO_DIRECTIVES = Directives()


@dataclass(slots=True, weakref_slot=True, eq=False)
class Lookup:
    """One request's way through the cache, and what storing its answer needs.

    `asked_at` is in Unix seconds; `directives` are what its client asks of the cache, where that is
    allowed; `candidates` are the stored questions that were looked at;
    `vector` is None when the text has none or there was no time; `epoch` is the store's at the time
    of the question, so that a flush between question and answer wins; `began` and `stages` are by
    `time.perf_counter`, each stage with its name, start and seconds.
    """

    question: Question
    outcome: Hit | Miss
    asked_at: int = 0
    directives: Directives = _NO_DIRECTIVES
    candidates: tuple[Candidate, ...] = ()
    epoch: int | None = None
    vector: Vector | None = None
    flight: Flight | None = None
    began: float = field(default_factory=time.perf_counter)
    stages: list[tuple[str, float, float]] = field(default_factory=list)


class Cache:
    """The decision core with its two ports, a store and an encoder."""

    def __init__(
        self,
        settings: Settings,
        secret: bytes,
        store: Store,
        encoder: Encoder | None = None,
        verifier: Verifier | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._settings = settings
        self._secret = secret
        self._store = store
        self._clock = clock
        self.seal = Seal(settings.store.prompts, secret)
        self._flights = Flights()
        self._faults = FaultLog()
        self._background: set[asyncio.Task[None]] = set()
        # Set when they are ready. Without an encoder only exact repeats hit.
        self.encoder = encoder
        self.verifier = verifier
        self.watch = Watch(settings, clock)
        self.valves = Valves(settings.valves, clock)
        # Of the newest look-ups, for a person who looks on.
        self.lookups_s: deque[float] = deque(maxlen=1000)

    async def answer(self, question: Question, directives: Directives = _NO_DIRECTIVES) -> Lookup:
        """Decide one question; a miss may come back with a flight that the caller must end."""
        lookup = Lookup(question, Miss("deadline"), int(self._clock()), directives)
        try:
            async with asyncio.timeout(self._settings.deadline_ms / 1000):
                found = await self._look_up(lookup)
            lookup.outcome = self.valves.admit(question, found)
        except TimeoutError as error:
            self._faults.record("lookup", "deadline", error)
        except (StoreError, EncoderError) as error:
            part, reason = _fault(error)
            self._faults.record(part, reason, error)
            lookup.outcome = Miss(reason)
        except Exception as error:  # noqa: BLE001 - fail open: whatever it is, the model answers
            self._faults.record("lookup", "error", error)
            lookup.outcome = Miss("error")
        took_s = time.perf_counter() - lookup.began
        LOOKUP_SECONDS.observe(took_s)
        self.lookups_s.append(took_s)
        if isinstance(lookup.outcome, Miss):
            if not directives.only_if_cached:
                await self._coalesce(lookup)
        elif lookup.outcome.kind != "coalesced":
            self._spawn(self._store.touch(lookup.outcome.entry.id, 1, int(self._clock())))
        return lookup

    async def explain(self, question: Question) -> Lookup:
        """Decide as `answer` does, but serve, count and wait for nothing.

        Raises:
            StoreError: as the store.
            EncoderError: as encoder and verifier.
        """
        lookup = Lookup(question, Miss("deadline"), asked_at=int(self._clock()))
        found = await self._look_up(lookup, in_full=True)
        lookup.outcome = self.valves.check(question, found)
        return lookup

    async def flush(self, before: int | None = None) -> None:
        """Forget answers of all tenants, durably and at once, for all workers.

        Args:
            before: Unix seconds; only answers of an earlier second. None: all.
        """
        await self._store.flush(before)
        self._flights.retire()

    async def delete(self, entry_id: UUID) -> None:
        """Forget one answer."""
        await self._store.delete([entry_id])
        flight = self._flights.find(entry_id)
        if flight is not None:
            flight.retire()

    async def count(self) -> int:
        """Return how many answers are held, expired ones until they are swept."""
        count = await self._store.count()
        ENTRIES.set(count)
        return count

    async def held(self) -> Mapping[str, int | str]:
        """Return what is held and what was removed; see `Store.stats`."""
        return await self._store.stats()

    async def _look_up(self, lookup: Lookup, *, in_full: bool = False) -> Hit | Miss:
        """Decide; in full: verify all candidates even where the nearest is sure enough."""
        question, now = lookup.question, int(self._clock())
        with stage("exact", lookup.stages):
            lookup.epoch, entry = await asyncio.gather(
                self._store.epoch(), self._store.get(question.id, now)
            )
        if entry is not None and self._is_ours(entry, question) and self._is_of(entry, question):
            if _is_too_old(entry, lookup):
                return Miss("too_old")
            return Hit(entry, "exact", 1.0, 1.0)
        if question.exact_only is not None:
            return Miss(question.exact_only)
        if self.encoder is None:
            return Miss("no_encoder")
        with stage("encode", lookup.stages):
            encoded = await self.encoder.encode(question.text, question.tenant)
        if isinstance(encoded, Unencodable):
            return Miss(encoded.reason)
        lookup.vector = encoded
        with stage("search", lookup.stages):
            neighbours = await self._store.search(
                question.scope, self.encoder.fingerprint, encoded, self._settings.candidates, now
            )
        ours = [found for found in neighbours if self._is_ours(found.entry, question)]
        young = [found for found in ours if not _is_too_old(found.entry, lookup)]
        if ours and not young:
            return Miss("too_old")
        verifier = self.verifier
        if not ours:
            return Miss("nothing_near")
        settings = self._settings.of_model(question.model)
        threshold = threshold_of(settings, verifier)
        enough = self.watch.threshold(threshold, settings)
        weighed = weigh(question.text, young, self._settings.guards, verifier)
        with stage("verify", lookup.stages):
            lookup.candidates = await judge(
                question.text,
                self.valves.forbid(self.watch.forbid(weighed, encoded)),
                verifier,
                math.inf if in_full else enough,
                # In shadow mode one wants to know what lower thresholds would serve.
                0.0 if in_full or settings.mode == "shadow" else enough,
            )
        return self.watch.decide(lookup.candidates, threshold, settings)

    @property
    def decider(self) -> str:
        """Name the encoder and verifier whose similarities and confidences these are."""
        return decider_of(self.encoder, self.verifier)

    async def _coalesce(self, lookup: Lookup) -> None:
        """Wait for an identical question in flight, or become the one that others wait for."""
        wait_s = self._settings.coalesce_wait_s
        if not wait_s or self._settings.of_model(lookup.question.model).mode == "shadow":
            return
        flight = self._flights.find(lookup.question.id)
        if flight is not None:
            entry = await flight.wait(wait_s)
            if entry is not None and self._is_live(entry, lookup):
                lookup.outcome = Hit(entry, "coalesced", 1.0, 1.0)
                return
            flight.retire()  # too slow, or failed: nobody else is to wait for it
        if self._flights.find(lookup.question.id) is None:
            lookup.flight = self._flights.open(lookup.question.id, lookup)

    def keep(self, lookup: Lookup, completion: str) -> None:
        """Store a complete answer in the background, and give it to those who wait for it."""
        entry = self._entry_of(lookup, completion)
        if isinstance(entry, str):
            self.drop(lookup, entry)
            return
        if lookup.flight is not None:
            lookup.flight.land(entry)
        if lookup.epoch is None:  # the store did not answer before; do not pile up writes on it
            UNSTORED.labels("store_failed").inc()
            self._retire(lookup)
            return
        self._spawn(self._put(lookup, entry))

    def _entry_of(self, lookup: Lookup, completion: str) -> Entry | str:
        """Return what is to be stored, unsigned and without its vector, or why nothing is."""
        question, now = lookup.question, int(self._clock())
        size = len(question.text.encode()) + len(completion.encode())
        if size > self._settings.store.max_entry_bytes:
            return "too_large"
        if self._is_flushed(lookup):
            return "flushed"
        is_hashed = self._settings.store.prompts == "hashed"
        return Entry(
            id=question.id,
            scope=question.scope,
            fingerprint="",
            text=hashed(question.text, self._secret) if is_hashed else question.text,
            completion=completion,
            model=question.model,
            created_at=now,
            expires_at=now + self._ttl_s(lookup),
            epoch=lookup.epoch or 0,
            signature="",
            tenant=question.tenant,
        )

    async def warm(self, question: Question, completion: str) -> str:
        """Store an answer that nobody has asked for yet, as `keep` does; what is there stays.

        Returns:
            ``stored``, ``present``, ``too_large`` or ``flushed`` (in this very second).

        Raises:
            StoreError: as the store.
            EncoderError: as the encoder, or there is none yet.
        """
        if self.encoder is None:
            raise EncoderError("the encoder must be loaded to store questions, it is not yet")
        lookup = Lookup(question, Miss("warm"), asked_at=int(self._clock()))
        lookup.epoch, there = await asyncio.gather(
            self._store.epoch(), self._store.get(question.id, lookup.asked_at)
        )
        if there is not None and self._is_ours(there, question) and self._is_of(there, question):
            return "present"
        entry = self._entry_of(lookup, completion)
        if isinstance(entry, str):
            return entry
        if question.exact_only is None:
            encoded = await encode_in_turn(self.encoder, question.text)
            lookup.vector = None if isinstance(encoded, Unencodable) else encoded
        await self._put(lookup, entry)
        return "stored"

    async def browse(self, browse: Browse) -> Listing:
        """Return entries for a person who looks on: those that may be served to somebody.

        Raises:
            StoreError: as the store.
        """
        found = await self._store.browse(browse)
        return Listing([one for one in found.entries if self._is_shown(one)], found.next)

    async def show(self, entry_id: UUID) -> Entry | None:
        """Return one such entry.

        Raises:
            StoreError: as the store.
        """
        entry = await self._store.get(entry_id, int(self._clock()))
        return entry if entry is not None and self._is_shown(entry) else None

    def _is_shown(self, entry: Entry) -> bool:
        flushed_at = self._flushed_at(entry.tenant, entry.model, entry.text)
        return is_authentic(entry, self._secret) and entry.created_at > flushed_at

    def _ttl_s(self, lookup: Lookup) -> int:
        """Life of an answer: the shortest that settings, kind of question and client ask for."""
        question = lookup.question
        asked = (question.ttl_s, lookup.directives.ttl_s)
        own = self._settings.of_model(question.model).ttl_s
        return min([own, *(seconds for seconds in asked if seconds is not None)])

    def drop(self, lookup: Lookup, reason: str) -> None:
        """End a miss whose answer is not stored."""
        if lookup.flight is not None:
            lookup.flight.abandon()
        UNSTORED.labels(reason).inc()

    async def _put(self, lookup: Lookup, entry: Entry) -> None:
        vector = lookup.vector
        encoder = self.encoder
        if vector is None and encoder is not None and lookup.question.exact_only is None:
            # There was no time before; now there is, and later paraphrases profit.
            try:
                encoded = await encoder.encode(entry.text, lookup.question.tenant)
                vector = None if isinstance(encoded, Unencodable) else encoded
            except EncoderError as error:
                self._faults.record(*_fault(error), error)
        if vector is not None and encoder is not None:
            entry = replace(entry, vector=vector, fingerprint=encoder.fingerprint)
        try:
            await self._store.put(replace(entry, signature=sign(entry, self._secret)))
            STORED.inc()
        finally:
            self._retire(lookup)

    def _retire(self, lookup: Lookup) -> None:
        """End the flight, once all who read the store before the answer was in it have decided."""
        if lookup.flight is not None:
            loop = asyncio.get_running_loop()
            loop.call_later(self._settings.deadline_ms / 1000, lookup.flight.retire)

    async def settle(self) -> None:
        """Wait until all that was begun in the background is done."""
        while self._background:
            await asyncio.gather(*self._background, return_exceptions=True)

    async def close(self) -> None:
        """Finish what is being stored, then let go of store and encoder."""
        await self.settle()
        await self._store.close()
        for part in (self.encoder, self.verifier):
            if part is not None:
                await part.close()

    def _is_live(self, entry: Entry, lookup: Lookup) -> bool:
        """Check of an answer in flight what is checked of a stored one: no flush, no expiry."""
        if entry.epoch != (lookup.epoch or 0) or self._is_flushed(lookup):
            return False
        if entry.created_at <= self._flushed_at(
            lookup.question.tenant, lookup.question.model, entry.text
        ):
            return False
        return entry.expires_at > self._clock() and not _is_too_old(entry, lookup)

    def _is_flushed(self, lookup: Lookup) -> bool:
        """Whether a flush came after the question: it wins over the answer."""
        question = lookup.question
        flushed_at = self._flushed_at(question.tenant, question.model, question.text)
        return 0 < flushed_at >= lookup.asked_at

    def _flushed_at(self, tenant: str, model: str, stored: str) -> int:
        """The Unix second up to which answers to a stored text do not count for them."""
        text = digest_of(stored, self._secret) if self.watch.belief.flushes else ""
        return self.watch.flushed_at(tenant, model, text)

    def _is_ours(self, entry: Entry, question: Question) -> bool:
        """Check again what the store promised, and that nobody else wrote the entry."""
        if entry.scope != question.scope or not is_authentic(entry, self._secret):
            self._faults.record("store", "forged")
            return False
        return entry.created_at > self._flushed_at(question.tenant, question.model, entry.text)

    def _is_of(self, entry: Entry, question: Question) -> bool:
        return is_of(entry.text, question.text, self._secret)

    def _spawn(self, work: Awaitable[None]) -> None:
        task = asyncio.ensure_future(self._guarded(work))
        self._background.add(task)
        task.add_done_callback(self._background.discard)

    async def _guarded(self, work: Awaitable[None]) -> None:
        try:
            async with asyncio.timeout(_WRITE_TIMEOUT_S):
                await work
        except TimeoutError as error:
            self._faults.record("store", "write_timeout", error)
        except StoreError as error:
            self._faults.record(*_fault(error), error)
        except Exception as error:  # noqa: BLE001 - a lost write must not reach the event loop
            self._faults.record("store", "write_error", error)


def decider_of(encoder: Encoder | None, verifier: Verifier | None) -> str:
    """Name an encoder and a verifier together."""
    first = encoder.fingerprint[:16] if encoder else ""
    return f"{first}+{verifier.fingerprint[:16] if verifier else 'cosine'}"


def _is_too_old(entry: Entry, lookup: Lookup) -> bool:
    """Whether an answer is older than the kind of question, or its client, wants it."""
    age_s = lookup.asked_at - entry.created_at
    bounds = (lookup.question.ttl_s, lookup.directives.max_age_s)
    return any(bound is not None and age_s > bound for bound in bounds)


def threshold_of(settings: Settings, verifier: Verifier | None) -> float:
    """Return the confidence from which a candidate is served.

    Raises:
        ConfigError: nothing is known to keep the target precision.
    """
    if verifier is not None:
        return settings.confidence_threshold or verifier.threshold(settings.target_precision)
    if settings.similarity_threshold is None:
        raise ConfigError(
            f"target_precision must have a verifier that fits the encoder, got none for "
            f"{settings.encoder.base}; set encoder.verifier, or similarity_threshold to serve by "
            f"cosine alone"
        )
    return settings.similarity_threshold


def _fault(error: StoreError | EncoderError) -> tuple[str, str]:
    match error:
        case StoreBusy():
            return "store", "store_busy"
        case StoreError():
            return "store", "store_failed"
        case EncoderBusy():
            return "encoder", "encoder_busy"
        case _:
            return "encoder", "encoder_failed"
