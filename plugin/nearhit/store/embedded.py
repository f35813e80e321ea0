"""The default store: a client of the one store process of a data folder.

Any number of workers, each with its own `EmbeddedStore`, share the folder. Nothing here
waits for a store that is down: a call then fails at once and the request goes to the model.
"""

import asyncio
import logging
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any
from uuid import UUID

from nearhit.errors import StoreBusy, StoreError
from nearhit.store import wire
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
from nearhit.store.eviction import Bounds
from nearhit.store.folder import LOG, SCHEMA, check_length
from nearhit.store.launch import dial, start_process
from nearhit.store.link import Link
from nearhit.store.wire import Frame

log = logging.getLogger(__name__)

MIN_BACKOFF_S = 0.1
MAX_BACKOFF_S = 5.0
STABLE_S = 10.0  # a connection that lived this long does not count as a failed start


class EmbeddedStore:
    """Entries in a folder, through its store process. Implements `Store`.

    Connects at the first call (or `start`) and belongs to the event loop of that call.

    Args:
        data_dir: The folder; made if missing, and closed to other users.
        dimension: Length of every vector.
        bounds: How much the store may hold; what the worker says that came last holds for all.
            None: whatever holds already.
        max_pending: Calls in flight; one more fails at once with `StoreBusy`.
        start_timeout_s: How long a start of the process may take.
        hung_s: A process that answers nothing for so long while it is asked is killed.
        idle_exit_s: The process leaves when no worker has been connected for so long.

    Raises:
        ConfigError: The folder's path is too long for this system.
    """

    def __init__(
        self,
        data_dir: Path,
        dimension: int,
        *,
        bounds: Bounds | None = None,
        max_pending: int = 256,
        start_timeout_s: float = 10.0,
        hung_s: float = 15.0,
        idle_exit_s: float = 30.0,
    ) -> None:
        self._data_dir = data_dir.absolute()
        check_length(self._data_dir)
        self._dimension = dimension
        self._max_pending = max_pending
        self._start_timeout_s = start_timeout_s
        self._hung_s = hung_s
        self._bounds = bounds
        self._options = (
            f"--dimension={dimension}",
            f"--idle-exit-s={idle_exit_s}",
        )
        self._link: Link | None = None
        self._connecting: asyncio.Task[Link] | None = None
        self._waiting = 0
        self._linked_at = 0.0
        self._retry_at = 0.0
        self._backoff_s = MIN_BACKOFF_S
        self._closed = False

    async def start(self) -> None:
        """Bring the store process up ahead of the first call.

        Raises:
            StoreError: It cannot be started; later calls try again.
        """
        await self._linked()

    async def get(self, entry_id: UUID, now: int) -> Entry | None:
        """See `Store.get`."""
        check_int("now", now)
        reply = await self._call({"op": "get", "entry": entry_id.hex, "now": now})
        era = _era(reply)
        for entry in wire.unpack_entries(reply):
            if entry.id == entry_id and is_live(entry, now, era):
                return entry
        return None

    async def search(
        self, scope: str, fingerprint: str, vector: Vector, limit: int, now: int
    ) -> list[Neighbour]:
        """See `Store.search`."""
        search = Search(scope, fingerprint, vector, limit, now)
        check_search(search, self._dimension)
        header = {
            "op": "search",
            "scope": scope,
            "fingerprint": fingerprint,
            "limit": limit,
            "now": now,
        }
        reply = await self._call(header, vectors=wire.pack_vector(vector))
        return rank(wire.unpack_entries(reply), search, _era(reply))

    async def put(self, entry: Entry) -> None:
        """See `Store.put`."""
        check_entry(entry, self._dimension)
        frame = wire.pack_entries({"op": "put"}, [entry])
        await self._call(frame.header, frame.vectors, frame.body)

    async def touch(self, entry_id: UUID, hits: int, now: int) -> None:
        """See `Store.touch`."""
        check_int("hits", hits)
        check_int("now", now)
        await self._call({"op": "touch", "entry": entry_id.hex, "hits": hits, "now": now})

    async def delete(self, ids: Sequence[UUID]) -> None:
        """See `Store.delete`."""
        await self._call({"op": "delete", "ids": [entry_id.hex for entry_id in ids]})

    async def stale(self, fingerprint: str, after: UUID | None, limit: int, now: int) -> Page:
        """See `Store.stale`."""
        check_page(fingerprint, limit, now)
        header = {
            "op": "stale",
            "fingerprint": fingerprint,
            "after": None if after is None else after.hex,
            "limit": limit,
            "now": now,
        }
        reply = await self._call(header)
        return Page(wire.unpack_entries(reply), _int(reply, "left"))

    async def browse(self, browse: Browse) -> Listing:
        """See `Store.browse`."""
        check_browse(browse, self._dimension)
        header = {
            "op": "browse",
            "limit": browse.limit,
            "now": browse.now,
            "after": None if browse.after is None else browse.after.hex,
            "tenant": browse.tenant,
            "contains": browse.contains,
            "fingerprint": browse.fingerprint,
        }
        vector = b"" if browse.vector is None else wire.pack_vector(browse.vector)
        reply = await self._call(header, vectors=vector)
        at = reply.header.get("next")
        return Listing(wire.unpack_entries(reply), None if at is None else UUID(hex=at))

    async def live(self, after: UUID | None, limit: int, now: int) -> Page:
        """Return all live entries, of any encoder or none, with their vectors, by id.

        Args:
            after: The last id of the page before; None begins.
            limit: How many at most, 1 to 100; fewer come where answers are large.
            now: Unix seconds.
        """
        check_page("any", limit, now)
        header = {
            "op": "live",
            "after": None if after is None else after.hex,
            "limit": limit,
            "now": now,
        }
        reply = await self._call(header)
        return Page(wire.unpack_entries(reply), _int(reply, "left"))

    async def exchange(self, signature: str, entry: Entry) -> bool:
        """See `Store.exchange`."""
        check_entry(entry, self._dimension)
        frame = wire.pack_entries({"op": "exchange", "signature": signature}, [entry])
        reply = await self._call(frame.header, frame.vectors, frame.body)
        return reply.header.get("exchanged") is True

    async def flush(self, before: int | None = None) -> int:
        """See `Store.flush`."""
        if before is not None:
            check_int("before", before)
        return _int(await self._call({"op": "flush", "before": before}), "epoch")

    async def epoch(self) -> int:
        """See `Store.epoch`."""
        return _int(await self._call({"op": "epoch"}), "epoch")

    async def count(self) -> int:
        """See `Store.count`."""
        return _int(await self._call({"op": "count"}), "count")

    async def stats(self) -> Mapping[str, int | str]:
        """See `Store.stats`; all the names are in `engine.Stats`."""
        stats = (await self._call({"op": "stats"})).header.get("stats")
        if not isinstance(stats, dict):
            raise StoreError("the store process must answer with counters, it did not")
        return stats

    async def close(self) -> None:
        """Disconnect; calls in flight fail. The process leaves when it is idle."""
        self._closed = True
        if self._connecting is not None:
            self._connecting.cancel()
            await asyncio.gather(self._connecting, return_exceptions=True)
        if self._link is not None:
            await self._link.close()

    async def _call(
        self, header: Mapping[str, Any], vectors: bytes = b"", body: bytes = b""
    ) -> Frame:
        """One request over the current connection."""
        return await (await self._linked()).call(header, vectors, body)

    async def _linked(self) -> Link:
        """The connection; waits for a start under way, never for one that backs off."""
        if self._closed:
            raise StoreError("the store is closed")
        if self._link is not None and not self._link.broken:
            return self._link
        if self._connecting is None:
            wait_s = self._retry_at - asyncio.get_running_loop().time()
            if wait_s > 0:
                raise StoreError(f"the store process is down; the next try is in {wait_s:.1f} s")
            self._connecting = asyncio.create_task(self._connect())
            self._connecting.add_done_callback(self._connected)
        if self._waiting >= self._max_pending:
            raise StoreBusy(f"{self._waiting} calls wait for the store process to start")
        self._waiting += 1
        try:
            # Shielded: the deadline of one call must not end the start that all wait for.
            return await asyncio.shield(self._connecting)
        except asyncio.CancelledError:
            if self._closed:
                raise StoreError("the store is closed") from None
            raise
        finally:
            self._waiting -= 1

    def _connected(self, connecting: asyncio.Task[Link]) -> None:
        """Note how a start ended, also when every call that waited for it is gone."""
        self._connecting = None
        if connecting.cancelled():
            return
        error = connecting.exception()
        if error is None:
            self._link = connecting.result()
            self._linked_at = asyncio.get_running_loop().time()
        else:
            self._back_off()
            log.warning("no store, requests go to the model: %s", error)

    def _broke(self) -> None:
        """Note that a connection ended."""
        if self._closed:
            return
        if asyncio.get_running_loop().time() - self._linked_at >= STABLE_S:
            self._backoff_s = MIN_BACKOFF_S
        self._back_off()
        log.warning("the store process is gone, requests go to the model until it is back")

    def _back_off(self) -> None:
        """Let no call try again for a while, twice as long each time."""
        self._retry_at = asyncio.get_running_loop().time() + self._backoff_s
        self._backoff_s = min(MAX_BACKOFF_S, 2 * self._backoff_s)

    async def _connect(self) -> Link:
        """Connect, starting the process if nobody listens."""
        started: asyncio.Future[int] | None = None
        pause_s = 0.01
        try:
            async with asyncio.timeout(self._start_timeout_s):
                while True:
                    link = await self._dial()
                    if link is not None:
                        return link
                    if started is None:
                        started = start_process(self._data_dir, self._options)
                    elif started.done():
                        if started.result() != 0:
                            raise StoreError(
                                f"the store process must start, it left with status "
                                f"{started.result()}; see {self._data_dir / LOG}"
                            )
                        # It lost the race to one that was itself leaving: try once more.
                        started = None
                    await asyncio.sleep(pause_s)
                    pause_s = min(0.2, 1.5 * pause_s)
        except TimeoutError:
            raise StoreError(
                f"the store process must answer within {self._start_timeout_s:g} s of its "
                f"start, it did not; see {self._data_dir / LOG}"
            ) from None
        except OSError as error:
            raise StoreError(f"the store's socket must be reachable: {error.strerror}") from error

    async def _dial(self) -> Link | None:
        """A greeted connection; None when nobody listens, or the one who did is leaving."""
        dialled = dial(self._data_dir)
        if dialled is None:
            return None
        reader, writer = await asyncio.open_unix_connection(sock=dialled)
        hello = {
            "protocol": wire.PROTOCOL,
            "schema": SCHEMA,
            "dimension": self._dimension,
            "bounds": None if self._bounds is None else asdict(self._bounds),
        }
        greeted = False
        try:
            writer.write(wire.encode(Frame(hello)))
            reply = (await wire.read(reader)).header
            greeted = "error" not in reply
        except (ConnectionError, EOFError):
            return None
        finally:
            if not greeted:
                writer.close()
        if greeted:
            return Link(reader, writer, self._max_pending, self._broke, self._hung_s)
        if reply.get("leaving"):
            return None
        raise StoreError(str(reply["error"]))


def _era(reply: Frame) -> Era:
    """What the store process has not flushed, in an answer with entries."""
    return Era(_int(reply, "epoch"), _int(reply, "since"))


def _int(reply: Frame, name: str) -> int:
    """An int field of an answer."""
    value = reply.header.get(name)
    if type(value) is not int:
        raise StoreError(f"the store process must answer with an int `{name}`, it did not")
    return value
