"""Qdrant Edge, wrapped: entries in, entries out, every failure a `StoreError`.

Synchronous and for one thread: each call holds the interpreter lock to its end, a save for
up to a second, so this runs in the store process and nowhere else. No HNSW: brute force is
exact and takes 6 to 10 ms at 50,000 entries of one scope, an `optimize()` minutes.
"""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from uuid import UUID

import numpy as np
import qdrant_edge as edge

from nearhit.errors import StoreError
from nearhit.store.base import (
    Entry,
    Page,
    Search,
    check_entry,
    check_int,
    check_page,
    check_search,
    is_live,
)
from nearhit.store.folder import SCHEMA, SHARD, STORE, Meta, move_aside, read_meta, write_meta
from nearhit.store.shard import as_store_error, create, load, points_of, unusable

log = logging.getLogger(__name__)

CHUNK = 200  # entries deleted at a time: 4 ms; one big delete by filter took 1.6 s at 100k
EVICT = 100

_FIELDS = (
    "scope",
    "fingerprint",
    "text",
    "completion",
    "model",
    "created_at",
    "expires_at",
    "epoch",
    "signature",
    "hits",
)


@dataclass(frozen=True, slots=True)
class Stats:
    """What the engine did since it opened, and what it holds."""

    pid: int
    points: int
    epoch: int
    unsaved: int
    stale_puts: int
    evicted: int
    swept: int
    moved_aside: str


class Engine:
    """One open shard with its meta. Make it with `Engine.open`."""

    def __init__(
        self, shard: edge.EdgeShard, store: Path, meta: Meta, max_entries: int, moved_aside: str
    ) -> None:
        self._shard = shard
        self._store = store
        self._meta = meta
        self._max_entries = max_entries
        self._moved_aside = moved_aside
        self._unsaved = self._stale_puts = self._evicted = self._swept = 0

    @classmethod
    def open(cls, data_dir: Path, dimension: int, max_entries: int) -> "Engine":
        """Open the store of a folder, or start an empty one.

        A store of another schema or dimension, or one that is damaged, is moved aside and
        logged: a cache that starts empty beats one that does not start.

        Raises:
            StoreError: The system refuses (disk full, no permission, already open).
        """
        store = data_dir / STORE
        epoch, moved_aside = 0, ""
        if store.exists():
            meta = read_meta(store)
            opened = unusable(meta, dimension) or load(store)
            if meta is not None and not isinstance(opened, str):
                points = points_of(opened)
                if points >= meta.floor:
                    return cls(opened, store, meta, max_entries, moved_aside)
                opened.close()
                opened = f"damaged: {points} of at least {meta.floor} points are there"
            epoch = 0 if meta is None else meta.epoch
            moved_aside = str(opened)
            target = move_aside(store, moved_aside.partition(":")[0])
            log.error("store moved to %s, starting empty: %s", target.name, moved_aside)
        store.mkdir(mode=0o700)
        # The shard before its meta: killed in between, the next start finds no meta and
        # moves an empty store aside.
        shard = create(store / SHARD, dimension)
        meta = Meta(SCHEMA, dimension, epoch, floor=0)
        write_meta(store, meta)
        return cls(shard, store, meta, max_entries, moved_aside)

    @property
    def epoch(self) -> int:
        """The epoch that live entries carry."""
        return self._meta.epoch

    @property
    def unsaved(self) -> int:
        """Writes since the last `save`: what a loss of power would take."""
        return self._unsaved

    def count(self) -> int:
        """Return how many points the shard holds, dead ones included."""
        with as_store_error("count"):
            return points_of(self._shard)

    def stats(self, pid: int) -> Stats:
        """Return the counters."""
        return Stats(
            pid=pid,
            points=self.count(),
            epoch=self.epoch,
            unsaved=self._unsaved,
            stale_puts=self._stale_puts,
            evicted=self._evicted,
            swept=self._swept,
            moved_aside=self._moved_aside,
        )

    def get(self, entry_id: UUID, now: int) -> Entry | None:
        """Return the entry if it is live. See `Store.get`."""
        check_int("now", now)
        with as_store_error("get"):
            records = self._shard.retrieve([entry_id], True, True)
        entries = [_to_entry(record) for record in records]
        return next((entry for entry in entries if is_live(entry, now, self.epoch)), None)

    def search(self, search: Search) -> list[Entry]:
        """Return the nearest live entries, most similar first. See `Store.search`."""
        check_search(search, self._meta.dimension)
        must: list[Any] = [edge.FieldCondition("scope", match=edge.MatchValue(search.scope))]
        found = self._nearest(search, edge.Filter(must=must))
        # With the scope alone it took 1.9 ms at 20k of one scope, with the rest beside it 12 to
        # 19: the engine then looks at every point. Where all that is nearest may be served, the
        # rest would have changed nothing.
        if len(found) < search.limit or all(self._is_wanted(entry, search) for entry in found):
            return [entry for entry in found if self._is_wanted(entry, search)]
        must += [
            edge.FieldCondition("fingerprint", match=edge.MatchValue(search.fingerprint)),
            edge.FieldCondition("epoch", match=edge.MatchValue(self.epoch)),
        ]
        # Not dead rather than alive: half the time, for the range then matches few.
        dead = edge.FieldCondition("expires_at", range=edge.RangeFloat(lte=search.now))
        return self._nearest(search, edge.Filter(must=must, must_not=[dead]))

    def stale(self, fingerprint: str, after: UUID | None, limit: int, now: int) -> Page:
        """Return live entries that another encoder made. See `Store.stale`."""
        check_page(fingerprint, limit, now)
        wanted = edge.Filter(
            must=[
                edge.FieldCondition("epoch", match=edge.MatchValue(self.epoch)),
                edge.FieldCondition("expires_at", range=edge.RangeFloat(gt=now)),
            ],
            must_not=[edge.FieldCondition("fingerprint", match=edge.MatchAny([fingerprint, ""]))],
        )
        return self._page(wanted, after, limit, with_vector=False)

    def live(self, after: UUID | None, limit: int, now: int) -> Page:
        """Return live entries with their vectors. See `EmbeddedStore.live`."""
        check_page("any", limit, now)
        wanted = edge.Filter(
            must=[
                edge.FieldCondition("epoch", match=edge.MatchValue(self.epoch)),
                edge.FieldCondition("expires_at", range=edge.RangeFloat(gt=now)),
            ]
        )
        return self._page(wanted, after, limit, with_vector=True)

    def _page(
        self, wanted: edge.Filter, after: UUID | None, limit: int, *, with_vector: bool
    ) -> Page:
        """The entries behind `after` that a filter lets through, by id."""
        # The engine's offset includes the entry it names: one more is asked for and dropped.
        request = edge.ScrollRequest(
            offset=after, limit=limit + 1, filter=wanted, with_payload=True, with_vector=with_vector
        )
        with as_store_error("page"):
            records, _ = self._shard.scroll(request)
            left = self._shard.count(edge.CountRequest(exact=True, filter=wanted))
        entries = [_to_entry(record) for record in records]
        return Page([entry for entry in entries if entry.id != after][:limit], left)

    def exchange(self, signature: str, entry: Entry) -> bool:
        """Replace the entry that still carries the signature. See `Store.exchange`."""
        check_entry(entry, self._meta.dimension)
        if entry.epoch != self.epoch:
            return False
        with as_store_error("get"):
            records = self._shard.retrieve([entry.id], ["signature", "hits"], False)
        stored = next((record.payload or {} for record in records), {})
        if stored.get("signature") != signature:
            return False
        return self.put(replace(entry, hits=int(stored.get("hits", 0))))

    def put(self, entry: Entry) -> bool:
        """Store the entry unless its epoch is another; tell whether. See `Store.put`."""
        check_entry(entry, self._meta.dimension)
        if entry.epoch != self.epoch:
            self._stale_puts += 1
            return False
        # An exact-only entry has no vector: Edge takes a point without one, and no search
        # finds it.
        vector: Any = {} if entry.vector is None else entry.vector.tolist()
        payload = {name: getattr(entry, name) for name in _FIELDS}
        point = edge.Point(entry.id, vector, payload)
        with as_store_error("put"):
            self._shard.update(edge.UpdateOperation.upsert_points([point]))
        self._unsaved += 1
        self._evict()
        return True

    def touch(self, entry_id: UUID, hits: int) -> None:
        """Add to the entry's hit count. See `Store.touch`."""
        check_int("hits", hits)
        with as_store_error("touch"):
            for record in self._shard.retrieve([entry_id], ["hits"], False):
                total = int((record.payload or {}).get("hits", 0)) + hits
                update = edge.UpdateOperation.set_payload([entry_id], {"hits": total})
                self._shard.update(update)
                self._unsaved += 1

    def delete(self, ids: Sequence[UUID]) -> None:
        """Remove these entries. See `Store.delete`."""
        for start in range(0, len(ids), CHUNK):
            self._delete_chunk(ids[start : start + CHUNK])

    def advance_epoch(self) -> int:
        """Flush all entries by one durable write, whatever their number; return the epoch."""
        self._remember(replace(self._meta, epoch=self.epoch + 1))
        return self.epoch

    def sweep(self, now: int) -> int:
        """Delete up to `CHUNK` dead entries; return how many."""
        dead = edge.Filter(
            should=[
                edge.FieldCondition("expires_at", range=edge.RangeFloat(lte=now)),
                edge.FieldCondition("epoch", range=edge.RangeFloat(lt=self.epoch)),
            ]
        )
        request = edge.ScrollRequest(limit=CHUNK, filter=dead, with_payload=False)
        with as_store_error("sweep"):
            records, _ = self._shard.scroll(request)
        swept = self._delete_chunk([_to_uuid(record.id) for record in records])
        self._swept += swept
        return swept

    def save(self) -> None:
        """Bring all to the disk and cut the write-ahead log: 3 to 280 ms, at times a second."""
        if not self._unsaved:
            return
        with as_store_error("save"):
            self._shard.flush()
        self._unsaved = 0
        self._remember(replace(self._meta, floor=self.count()))

    def close(self) -> None:
        """Save and close."""
        try:
            self.save()
        finally:
            with as_store_error("close"):
                self._shard.close()

    def _nearest(self, search: Search, wanted: edge.Filter) -> list[Entry]:
        """The nearest entries that a filter lets through, most similar first."""
        request = edge.QueryRequest(
            limit=search.limit,
            query=edge.Query.Nearest(search.vector.tolist()),
            filter=wanted,
            with_payload=True,
            with_vector=True,
        )
        with as_store_error("search"):
            points = self._shard.query(request)
        return [_to_entry(point) for point in points]

    def _is_wanted(self, entry: Entry, search: Search) -> bool:
        """Whether an entry of the scope is what the search asks for."""
        is_ours = entry.fingerprint == search.fingerprint
        return is_ours and is_live(entry, search.now, self.epoch)

    def _evict(self) -> None:
        """Delete the oldest entries while there are too many."""
        while self.count() > self._max_entries:
            oldest = edge.ScrollRequest(
                limit=min(EVICT, max(1, self._max_entries // 10)),
                with_payload=False,
                order_by=edge.OrderBy("created_at", edge.Direction.Asc),
            )
            with as_store_error("evict"):
                records, _ = self._shard.scroll(oldest)
            evicted = self._delete_chunk([_to_uuid(record.id) for record in records])
            if not evicted:
                return
            self._evicted += evicted

    def _delete_chunk(self, ids: Sequence[UUID]) -> int:
        """Delete at most `CHUNK` points; return how many there were."""
        with as_store_error("delete"):
            there = [_to_uuid(r.id) for r in self._shard.retrieve(list(ids), False, False)]
            if there:
                # The lower floor first: the other way round, a kill in between would make
                # a sound store look damaged.
                floor = max(0, self._meta.floor - len(there))
                self._remember(replace(self._meta, floor=floor))
                self._shard.update(edge.UpdateOperation.delete_points(list(there)))
                self._unsaved += len(there)
        return len(there)

    def _remember(self, meta: Meta) -> None:
        """Write the meta if it changed; only what is on the disk counts."""
        if meta != self._meta:
            with as_store_error("write of meta.json"):
                write_meta(self._store, meta)
            self._meta = meta


def _to_entry(point: edge.Record | edge.ScoredPoint) -> Entry:
    """The entry that a point holds."""
    payload: Mapping[str, Any] = point.payload or {}
    values = point.vector  # once: each look copies the whole list, 50 us
    vector = None
    if isinstance(values, list) and values:
        vector = np.array(values, dtype=np.float32)
    try:
        fields = {name: payload[name] for name in _FIELDS}
    except KeyError as error:
        raise StoreError(f"a stored point must have `{error.args[0]}`, it does not") from None
    return Entry(id=_to_uuid(point.id), vector=vector, **fields)


def _to_uuid(point_id: object) -> UUID:
    """Ids go in as UUIDs and come back as UUIDs."""
    if not isinstance(point_id, UUID):
        raise StoreError(f"a stored id must be a UUID, got {type(point_id).__name__}")
    return point_id
