"""A Qdrant server or cluster as the store, for any number of proxies on any number of machines.

A server that is down costs requests nothing. After `FAILURES` failed calls in a row the breaker is
open and every call fails at once; a task of its own, never a request, tries the server again after
a pause that doubles, and closes the breaker when the collection answers.

Read-your-writes is not promised: a write is acknowledged by as many replicas as
`store.write_consistency_factor` says, and a read asks one. A flush by another proxy is obeyed by
exact look-ups at once and by searches within `ERA_AGE_S`.

`qdrant-client` is imported by the first connection, in a thread: it takes a second.
"""

import asyncio
import importlib
import logging
import random
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Final, TypeVar
from uuid import UUID

from nearhit.config import StoreSettings
from nearhit.errors import StoreBusy, StoreError
from nearhit.store.base import (
    Browse,
    Entry,
    Era,
    Listing,
    Neighbour,
    Page,
    Search,
    Vector,
    check_browse,
    check_entry,
    check_int,
    check_page,
    check_search,
    is_live,
    rank,
)

if TYPE_CHECKING:
    from nearhit.store.collection import Collection

log = logging.getLogger(__name__)

T = TypeVar("T")

ERA_AGE_S: Final = 1.0  # within so long a flush by another proxy is obeyed
WRITE_TIMEOUT_S: Final = 5.0  # off the request path
OPEN_TIMEOUT_S: Final = 10.0
_INSERT_TIMEOUT_S: Final = 60.0
FAILURES: Final = 5
ATTEMPTS: Final = 3
MIN_PAUSE_S: Final = 0.25
MAX_PAUSE_S: Final = 30.0
SWEEP_EVERY_S: Final = 60.0
_FIRST_RETRY_S: Final = 0.01
_LAG_S: Final = 10.0  # of a replica; then the collection was made anew
_GRACE_S: Final = 3600  # the clocks of several machines differ: swept an hour after expiry
_JUMP_S: Final = 60.0


class ServerStore:
    """Entries in a collection of a Qdrant server. Implements `Store`.

    Connects from the first call (or `start`) on and belongs to the event loop of that call; until
    it has, every call but `start` fails at once.

    Args:
        settings: `store` of the config, its `url` set.
        dimension: length of every vector.
        owner: digest of the installation's secret; all who share a collection share it.
        epoch: of a collection that this store makes.
        connect: makes the collection's client; for tests.
    """

    def __init__(
        self,
        settings: StoreSettings,
        dimension: int,
        *,
        owner: str = "",
        epoch: int = 0,
        connect: "Callable[[], Awaitable[Collection]] | None" = None,
    ) -> None:
        self._settings = settings
        self._dimension = dimension
        self._owner = owner
        self._first_epoch = epoch
        self._connect = connect or self._connect_to_server
        self._read_timeout_s = settings.timeout_ms / 1000
        self._is_quantised = settings.quantization != "none"
        self._collection: Collection | None = None
        self._is_up = False
        self._fault = "not connected yet"
        self._failures = 0
        self._in_flight = 0
        self._opening: asyncio.Task[None] | None = None
        self._tried = asyncio.Event()
        self._upkeep: asyncio.Task[None] | None = None
        self._era: Era | None = None
        self._era_at = 0.0
        self._refreshing: asyncio.Task[Era] | None = None
        self._closed = False

    @property
    def is_up(self) -> bool:
        """Whether the server is asked; else calls fail at once."""
        return self._is_up

    async def start(self) -> None:
        """Connect ahead of the first call.

        Raises:
            StoreError: it cannot be done; a task of its own goes on trying.
        """
        self._begin()
        await self._tried.wait()
        self._opened()

    async def get(self, entry_id: UUID, now: int) -> Entry | None:
        """See `Store.get`."""
        check_int("now", now)
        entry, era = await self._read(lambda collection: collection.get(entry_id))
        era = self._learn(era)
        return entry if entry is not None and is_live(entry, now, era) else None

    async def search(
        self, scope: str, fingerprint: str, vector: Vector, limit: int, now: int
    ) -> list[Neighbour]:
        """See `Store.search`."""
        search = Search(scope, fingerprint, vector, limit, now)
        check_search(search, self._dimension)
        era = await self.era()
        found = await self._read(
            lambda collection: collection.nearest(search, era, is_quantised=self._is_quantised)
        )
        return rank(found, search, era)

    async def put(self, entry: Entry) -> None:
        """See `Store.put`."""
        check_entry(entry, self._dimension)
        if await self._is_current(entry):
            await self._write(lambda collection: collection.put(entry))

    async def touch(self, entry_id: UUID, hits: int, now: int) -> None:
        """See `Store.touch`; of two proxies that do it at once, one may count for nothing."""
        check_int("hits", hits)
        check_int("now", now)
        if hits:
            await self._write(lambda collection: collection.touch(entry_id, hits, now))

    async def delete(self, ids: Sequence[UUID]) -> None:
        """See `Store.delete`."""
        await self._write(lambda collection: collection.delete(ids))

    async def stale(self, fingerprint: str, after: UUID | None, limit: int, now: int) -> Page:
        """See `Store.stale`."""
        check_page(fingerprint, limit, now)
        era = await self.era()
        entries, left = await self._write(
            lambda collection: collection.stale(fingerprint, after, limit, now, era)
        )
        return Page(entries, left)

    async def browse(self, browse: Browse) -> Listing:
        """Return live entries of all scopes; their vectors only where one is looked for.

        No graph goes over all scopes: the nearest are found by a look at every vector.
        """
        check_browse(browse, self._dimension)
        era = await self.era()
        return await self._write(
            lambda collection: collection.browse(browse, era, is_quantised=self._is_quantised)
        )

    async def exchange(self, signature: str, entry: Entry) -> bool:
        """See `Store.exchange`."""
        check_entry(entry, self._dimension)
        if not await self._is_current(entry):
            return False
        return await self._write(lambda collection: collection.exchange(signature, entry))

    async def flush(self, before: int | None = None) -> int:
        """See `Store.flush`; other proxies obey within `ERA_AGE_S`."""
        if before is not None:
            check_int("before", before)
        return self._learn(await self._write(lambda collection: collection.flush(before))).epoch

    async def era(self) -> Era:
        """Return what is not flushed; at most `ERA_AGE_S` old."""
        age_s = asyncio.get_running_loop().time() - self._era_at
        if self._era is not None and self._is_up and age_s < ERA_AGE_S:
            return self._era
        return await self._refreshed()

    async def epoch(self) -> int:
        """See `Store.epoch`; at most `ERA_AGE_S` old."""
        return (await self.era()).epoch

    async def count(self) -> int:
        """See `Store.count`; approximate while the server moves entries."""
        return await self._write(lambda collection: collection.count())

    async def stats(self) -> Mapping[str, int | str]:
        """Return `points`; what a server holds in bytes and has removed, its own metrics say."""
        return {"points": await self.count()}

    async def held(self, ids: Sequence[UUID]) -> set[UUID]:
        """Return which of these entries are in the collection, dead or not."""
        return await self._write(lambda collection: collection.held(ids))

    async def insert(self, entries: Sequence[Entry]) -> None:
        """Store entries; where an id is there already, nothing changes.

        Raises:
            StoreError: as `put`, or an entry is flushed after it.
        """
        for entry in entries:
            check_entry(entry, self._dimension)
        # As many bytes as a page holds: it has its own, longer time.
        await self._call(lambda collection: collection.insert(entries), _INSERT_TIMEOUT_S)
        era = await self._refreshed()
        if not all(is_live(entry, 0, era) for entry in entries):
            raise StoreError("the collection must not be flushed meanwhile, it was; run it again")

    async def close(self) -> None:
        """Disconnect; calls in flight fail."""
        self._closed = True
        tasks = [task for task in (self._opening, self._upkeep, self._refreshing) if task]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self._tried.set()
        if self._collection is not None:
            await self._collection.close()

    # ---- what has been flushed ---------------------------------------------------------------

    async def _is_current(self, entry: Entry) -> bool:
        """Whether the entry is not flushed; asks again where what is known says it is."""
        # At 0, for an expired one may be stored.
        return is_live(entry, 0, await self.era()) or is_live(entry, 0, await self._refreshed())

    async def _refreshed(self) -> Era:
        """The era read now, once for all who ask meanwhile; nobody waits for a dead server."""
        self._opened()
        if self._refreshing is None:
            self._refreshing = asyncio.create_task(self._read(lambda each: each.era()))
            self._refreshing.add_done_callback(self._was_refreshed)
        return self._learn(await asyncio.shield(self._refreshing))

    def _was_refreshed(self, task: asyncio.Task[Era]) -> None:
        self._refreshing = None
        if not task.cancelled():
            task.exception()  # whoever waited for it may be gone; that is no news for a log

    def _learn(self, era: Era) -> Era:
        """Remember what was read. One that flushes less is a late answer, unless none comes."""
        now = asyncio.get_running_loop().time()
        known = self._era
        is_late = known is not None and (era.epoch, era.since) < (known.epoch, known.since)
        if known is None or not is_late or now - self._era_at > _LAG_S:
            known = self._era = era
            self._era_at = now
        return known

    # ---- calls -------------------------------------------------------------------------------

    async def _read(self, work: "Callable[[Collection], Awaitable[T]]") -> T:
        return await self._call(work, self._read_timeout_s)

    async def _write(self, work: "Callable[[Collection], Awaitable[T]]") -> T:
        return await self._call(work, WRITE_TIMEOUT_S)

    async def _call(self, work: "Callable[[Collection], Awaitable[T]]", timeout_s: float) -> T:
        """Do it, again where that may help, within the time; note how the server did.

        Every call may be made twice: each says what is to be, not what is to change.
        """
        collection = self._opened()
        if self._in_flight >= self._settings.max_pending:
            raise StoreBusy(f"{self._in_flight} calls wait for the Qdrant server")
        clock = asyncio.get_running_loop().time
        began = clock()
        self._in_flight += 1
        try:
            async with asyncio.timeout(timeout_s):
                result = await _attempt(work, collection)
        except asyncio.CancelledError:
            # A look-up whose deadline is over: the server took most of it.
            if clock() - began >= self._read_timeout_s / 2:
                self._failed("it answers too late")
            raise
        except TimeoutError:
            self._failed(f"no answer within {timeout_s:g} s")
            raise StoreError(f"the Qdrant server must answer within {timeout_s:g} s") from None
        except StoreError as error:
            self._failed(str(error))
            raise
        except Exception as error:  # noqa: BLE001 - the client raises nothing narrower
            fault = _describe(error)
            self._failed(fault)
            raise StoreError(f"the Qdrant server must do as asked, got {fault}") from None
        finally:
            self._in_flight -= 1
        self._failures = 0
        return result

    def _failed(self, fault: str) -> None:
        """Count a failure; enough in a row open the breaker."""
        self._failures += 1
        if self._is_up and self._failures >= FAILURES:
            log.warning("the Qdrant server fails (%s), requests go to the model", fault)
            self._is_up, self._fault = False, fault
            self._opening = asyncio.create_task(self._open(MIN_PAUSE_S))

    # ---- the breaker -------------------------------------------------------------------------

    def _begin(self) -> None:
        if self._opening is None and not self._closed:
            self._opening = asyncio.create_task(self._open(0.0))

    def _opened(self) -> "Collection":
        """The collection where it answers; no call waits for a connection."""
        self._begin()
        if self._closed:
            raise StoreError("the store is closed")
        if not self._is_up or self._collection is None:
            raise StoreError(f"the Qdrant server is down: {self._fault}")
        return self._collection

    async def _open(self, pause_s: float) -> None:
        """Try until the collection answers. The one half-open trial at a time is this task's."""
        while True:
            await asyncio.sleep(pause_s * random.uniform(0.5, 1.5))  # noqa: S311 - no secret
            try:
                async with asyncio.timeout(OPEN_TIMEOUT_S):
                    if self._collection is None:
                        self._collection = await self._connect()
                    era = await self._collection.open(
                        self._settings, self._owner, self._first_epoch
                    )
                break
            except StoreError as error:
                fault = str(error)
            except Exception as error:  # noqa: BLE001 - the client raises nothing narrower
                fault = _describe(error)
            if fault != self._fault:
                log.warning("no store, requests go to the model: %s", fault)
            self._fault = fault
            self._tried.set()
            pause_s = min(MAX_PAUSE_S, max(MIN_PAUSE_S, 2 * pause_s))
        self._era = None  # of what is there now, which may be older than what was
        self._learn(era)
        self._failures, self._is_up, self._fault = 0, True, ""
        self._tried.set()
        log.info("the Qdrant server is up, collection %s", self._settings.collection)
        if self._upkeep is None:
            self._upkeep = asyncio.create_task(self._keep_up())

    async def _connect_to_server(self) -> "Collection":
        settings = self._settings
        if settings.api_key is not None and str(settings.url).startswith("http:"):
            log.warning("store.api_key goes to store.url without TLS; https:// keeps it secret")
        module = await asyncio.to_thread(importlib.import_module, "nearhit.store.collection")
        client = await asyncio.to_thread(module.make_client, settings)
        collection: Collection = module.Collection(client, settings.collection, self._dimension)
        return collection

    # ---- upkeep ------------------------------------------------------------------------------

    async def _keep_up(self) -> None:
        """Now and then, at another time than other proxies: delete what is dead or too much."""
        ahead_s = time.time() - time.monotonic()
        while True:
            await asyncio.sleep(SWEEP_EVERY_S * random.uniform(0.5, 1.5))  # noqa: S311
            jumped = abs(time.time() - time.monotonic() - ahead_s) > _JUMP_S
            try:
                # A clock that jumped deletes nothing but what was flushed.
                await self.tend(0 if jumped else int(time.time()) - _GRACE_S)
            except StoreError as error:
                log.info("upkeep failed: %s", error)

    async def tend(self, expired: int) -> int:
        """Delete what is dead, and the least and longest ago asked for beyond `max_entries`.

        Args:
            expired: Unix seconds; entries that expired then or before are deleted.

        Returns:
            How many were deleted.
        """
        era, tended = await self.era(), 0
        while found := await self._write(lambda collection: collection.sweep(expired, era)):
            tended += found
        bound = self._settings.bound
        while bound is not None and (excess := await self.count() - bound) > 0:
            evicted = await self._write(lambda collection, n=excess: collection.evict(n))  # type: ignore[misc]
            if not evicted:
                break
            tended += evicted
        return tended


async def _attempt(work: "Callable[[Collection], Awaitable[T]]", collection: "Collection") -> T:
    """Do it up to `ATTEMPTS` times, with pauses that double."""
    from nearhit.store.collection import is_passing

    pause_s = _FIRST_RETRY_S
    for _ in range(ATTEMPTS - 1):
        try:
            return await work(collection)
        except Exception as error:
            if isinstance(error, StoreError) or not is_passing(error):
                raise
        await asyncio.sleep(pause_s * random.uniform(0.5, 1.5))  # noqa: S311 - no secret
        pause_s *= 2
    return await work(collection)


def _describe(error: Exception) -> str:
    """What failed; the client may be what could not be imported."""
    if isinstance(error, TimeoutError):
        return f"no answer within {OPEN_TIMEOUT_S:g} s"
    if isinstance(error, ImportError):
        return "qdrant-client is not installed; pip install 'nearhit[server]'"
    from nearhit.store.collection import describe

    return describe(error)
