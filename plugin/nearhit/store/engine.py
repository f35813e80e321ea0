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
    Browse,
    Entry,
    Era,
    Listing,
    Page,
    Search,
    Vector,
    check_browse,
    check_entry,
    check_int,
    check_page,
    check_search,
    is_live,
)
from nearhit.store.eviction import Bounds, Ledger, after_hits, at_first, size_of, victims
from nearhit.store.folder import SCHEMA, SHARD, STORE, Meta, move_aside, read_meta, write_meta
from nearhit.store.shard import TENANT, as_store_error, create, load, points_of, unusable

log = logging.getLogger(__name__)

CHUNK = 200  # entries deleted at a time: 4 ms; one big delete by filter took 1.6 s at 100k
EVICT = 100
COUNT = 500  # entries whose bytes are counted at a time: 7 ms
SCAN = 200  # questions that one call of `browse` compares with a text

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
    "tenant",
)
# Beside the entry: its place among those to evict, and its size.
_NOTES = ["hits", "signature", "crf", "bytes"]
_SINCE_THEN = {"tenant": ""}  # what entries of before it was there stand for
# Quantised vectors choose so many times the wanted ones, half precision ranks them. Stores of
# before they were quantised are searched as they are.
_RESCORED = edge.SearchParams(
    quantization=edge.QuantizationSearchParams(rescore=True, oversampling=3.0)
)


@dataclass(frozen=True, slots=True)
class Stats:
    """What the engine holds, and what became of the rest.

    `bytes` is less than there are until they were counted, seconds after the start; `evicted`,
    `expired` and `flushed` are since the store was made, `stale_puts` since it was opened.
    """

    pid: int
    points: int
    bytes: int
    epoch: int
    unsaved: int
    stale_puts: int
    evicted: int
    expired: int
    flushed: int
    moved_aside: str


class Engine:
    """One open shard with its meta. Make it with `Engine.open`."""

    def __init__(self, shard: edge.EdgeShard, store: Path, meta: Meta, moved_aside: str) -> None:
        self._shard = shard
        self._store = store
        self._meta = meta
        self.bounds = Bounds()
        self._moved_aside = moved_aside
        self._ledger = Ledger()
        self._unsaved = self._stale_puts = 0

    @classmethod
    def open(cls, data_dir: Path, dimension: int) -> "Engine":
        """Open the store of a folder, or start an empty one.

        A store of another schema or dimension, or one that is damaged, is moved aside and
        logged: a cache that starts empty beats one that does not start.

        Raises:
            StoreError: The system refuses (disk full, no permission, already open).
        """
        store = data_dir / STORE
        epoch, since, moved_aside = 0, 0, ""
        if store.exists():
            meta = read_meta(store)
            opened = unusable(meta, dimension) or load(store)
            if meta is not None and not isinstance(opened, str):
                points = points_of(opened)
                if points >= meta.floor:
                    return cls(opened, store, meta, moved_aside)
                opened.close()
                opened = f"damaged: {points} of at least {meta.floor} points are there"
            epoch, since = (0, 0) if meta is None else (meta.epoch, meta.since)
            moved_aside = str(opened)
            target = move_aside(store, moved_aside.partition(":")[0])
            log.error("store moved to %s, starting empty: %s", target.name, moved_aside)
        store.mkdir(mode=0o700)
        # The shard before its meta: killed in between, the next start finds no meta and
        # moves an empty store aside.
        shard = create(store / SHARD, dimension)
        meta = Meta(SCHEMA, dimension, epoch, floor=0, since=since)
        write_meta(store, meta)
        return cls(shard, store, meta, moved_aside)

    @property
    def era(self) -> Era:
        """What is not flushed."""
        return Era(self._meta.epoch, self._meta.since)

    @property
    def is_full(self) -> bool:
        """Whether a bound is passed: `tend` is due."""
        return self.bounds.is_passed(self.count(), self._ledger.bytes)

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
            bytes=self._ledger.bytes,
            epoch=self._meta.epoch,
            unsaved=self._unsaved,
            stale_puts=self._stale_puts,
            evicted=self._meta.evicted,
            expired=self._meta.expired,
            flushed=self._meta.flushed,
            moved_aside=self._moved_aside,
        )

    def get(self, entry_id: UUID, now: int) -> Entry | None:
        """Return the entry if it is live. See `Store.get`."""
        check_int("now", now)
        with as_store_error("get"):
            records = self._shard.retrieve([entry_id], True, True)
        entries = [_to_entry(record) for record in records]
        return next((entry for entry in entries if is_live(entry, now, self.era)), None)

    def search(self, search: Search) -> list[Entry]:
        """Return the nearest live entries, most similar first. See `Store.search`."""
        check_search(search, self._meta.dimension)
        return self._live_nearest(search, "scope", search.scope)

    def stale(self, fingerprint: str, after: UUID | None, limit: int, now: int) -> Page:
        """Return live entries that another encoder made. See `Store.stale`."""
        check_page(fingerprint, limit, now)
        wanted = edge.Filter(
            must=[
                edge.FieldCondition("epoch", match=edge.MatchValue(self._meta.epoch)),
                edge.FieldCondition("expires_at", range=edge.RangeFloat(gt=now)),
                edge.FieldCondition("created_at", range=edge.RangeFloat(gte=self._meta.since)),
            ],
            must_not=[edge.FieldCondition("fingerprint", match=edge.MatchAny([fingerprint, ""]))],
        )
        return self._page(wanted, after, limit, with_vector=False)

    def live(self, after: UUID | None, limit: int, now: int) -> Page:
        """Return live entries with their vectors. See `EmbeddedStore.live`."""
        check_page("any", limit, now)
        wanted = edge.Filter(
            must=[
                edge.FieldCondition("epoch", match=edge.MatchValue(self._meta.epoch)),
                edge.FieldCondition("expires_at", range=edge.RangeFloat(gt=now)),
                edge.FieldCondition("created_at", range=edge.RangeFloat(gte=self._meta.since)),
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

    def browse(self, browse: Browse) -> Listing:
        """Return live entries of all scopes. See `Store.browse`."""
        check_browse(browse, self._meta.dimension)
        if browse.vector is not None:
            search = Search("", browse.fingerprint, browse.vector, browse.limit, browse.now)
            return Listing(self._live_nearest(search, TENANT, browse.tenant), None)
        must: list[Any] = [
            edge.FieldCondition("epoch", match=edge.MatchValue(self._meta.epoch)),
        ]
        if browse.tenant is not None:
            must.append(edge.FieldCondition(TENANT, match=edge.MatchValue(browse.tenant)))
        # The engine's offset includes the entry it names: one more is asked for and dropped.
        seen = SCAN if browse.contains else browse.limit
        request = edge.ScrollRequest(
            offset=browse.after,
            limit=seen + 2,
            filter=edge.Filter(must=must, must_not=self._dead(browse.now)),
            with_payload=["text"],
            with_vector=False,
        )
        with as_store_error("browse"):
            records, _ = self._shard.scroll(request)
        found = [record for record in records if _to_uuid(record.id) != browse.after]
        contains = browse.contains.casefold()
        wanted: list[int | UUID | str] = []
        last = None
        for position, record in enumerate(found[:seen]):
            last = _to_uuid(record.id)
            if contains in str((record.payload or {}).get("text", "")).casefold():
                wanted.append(last)
            if len(wanted) == browse.limit:
                seen = position + 1
                break
        with as_store_error("browse"):
            entries = [_to_entry(one) for one in self._shard.retrieve(wanted, True, False)]
        entries.sort(key=lambda entry: entry.id)
        return Listing(entries, last if len(found) > seen else None)

    def exchange(self, signature: str, entry: Entry) -> bool:
        """Replace the entry that still carries the signature. See `Store.exchange`."""
        check_entry(entry, self._meta.dimension)
        stored = self._noted(entry.id)
        if stored.get("signature") != signature:
            return False
        return self._write(replace(entry, hits=stored["hits"]), stored["crf"], stored["bytes"])

    def put(self, entry: Entry) -> bool:
        """Store the entry unless its epoch is another; tell whether. See `Store.put`."""
        check_entry(entry, self._meta.dimension)
        crf, before = at_first(entry.created_at), self._noted(entry.id).get("bytes", 0)
        return self._write(entry, crf, before)

    def _write(self, entry: Entry, crf: int, before: int) -> bool:
        """Write an entry in place of one of `before` bytes, unless it is flushed already."""
        if entry.epoch != self._meta.epoch or entry.created_at < self._meta.since:
            self._stale_puts += 1
            return False
        size = size_of(entry)
        # An exact-only entry has no vector: Edge takes a point without one, and no search
        # finds it.
        vector: Any = {} if entry.vector is None else entry.vector.tolist()
        payload = {name: getattr(entry, name) for name in _FIELDS} | {"crf": crf, "bytes": size}
        point = edge.Point(entry.id, vector, payload)
        with as_store_error("put"):
            self._shard.update(edge.UpdateOperation.upsert_points([point]))
        self._unsaved += 1
        self._ledger.note(entry.id, size - before)
        return True

    def touch(self, entry_id: UUID, hits: int, now: int) -> None:
        """Count hits, for the entry and for its place among those to evict. See `Store.touch`."""
        check_int("hits", hits)
        check_int("now", now)
        stored = self._noted(entry_id)
        if not stored or not hits:
            return
        counted = {
            "hits": stored["hits"] + hits,
            "crf": after_hits(stored["crf"], hits, now),
        }
        with as_store_error("touch"):
            self._shard.update(edge.UpdateOperation.set_payload([entry_id], counted))
        self._unsaved += 1

    def delete(self, ids: Sequence[UUID]) -> None:
        """Remove these entries. See `Store.delete`."""
        for start in range(0, len(ids), CHUNK):
            self._delete_chunk(ids[start : start + CHUNK])

    def flush(self, before: int | None = None) -> int:
        """Flush entries by one durable write, whatever their number. See `Store.flush`."""
        if before is None:
            # Nothing of before is left to be older; a `since` of a clock that was ahead ends here.
            self._remember(replace(self._meta, epoch=self._meta.epoch + 1, since=0))
        else:
            check_int("before", before)
            self._remember(replace(self._meta, since=max(before, self._meta.since)))
        return self._meta.epoch

    def tend(self, now: int) -> bool:
        """Do one batch of what the background does; tell whether there may be more to do.

        The dead go before the living, and within a bound nothing that lives goes.
        """
        return bool(self._sweep(now) or self._count_bytes() or self._evict())

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

    def _live_nearest(self, search: Search, field: str, value: str | None) -> list[Entry]:
        """The nearest live entries whose field has a value; None: any."""
        must: list[Any] = []
        if value is not None:
            must.append(edge.FieldCondition(field, match=edge.MatchValue(value)))
        found = self._nearest(search.vector, search.limit, edge.Filter(must=must))
        # With the scope alone it took 1.9 ms at 20k of one scope, with the rest beside it 12 to
        # 19: the engine then looks at every point. Where all that is nearest may be served, the
        # rest would have changed nothing.
        if len(found) < search.limit or all(self._is_wanted(entry, search) for entry in found):
            return [entry for entry in found if self._is_wanted(entry, search)]
        must += [
            edge.FieldCondition("fingerprint", match=edge.MatchValue(search.fingerprint)),
            edge.FieldCondition("epoch", match=edge.MatchValue(self._meta.epoch)),
        ]
        # Not dead rather than alive: half the time, for the range then matches few.
        wanted = edge.Filter(must=must, must_not=self._dead(search.now))
        return self._nearest(search.vector, search.limit, wanted)

    def _dead(self, now: int) -> list[Any]:
        """What of the epoch may not be served: expired, or from before a flush by age."""
        return [
            edge.FieldCondition("expires_at", range=edge.RangeFloat(lte=now)),
            edge.FieldCondition("created_at", range=edge.RangeFloat(lt=self._meta.since)),
        ]

    def _nearest(self, vector: Vector, limit: int, wanted: edge.Filter) -> list[Entry]:
        """The nearest entries that a filter lets through, most similar first."""
        request = edge.QueryRequest(
            limit=limit,
            query=edge.Query.Nearest(vector.tolist()),
            filter=wanted,
            with_payload=True,
            with_vector=True,
            params=_RESCORED,
        )
        with as_store_error("search"):
            points = self._shard.query(request)
        return [_to_entry(point) for point in points]

    def _noted(self, entry_id: UUID) -> Mapping[str, Any]:
        """What is noted of a stored entry; empty where there is none."""
        with as_store_error("get"):
            records = self._shard.retrieve([entry_id], _NOTES, False)
        return next((record.payload or {} for record in records), {})

    def _is_wanted(self, entry: Entry, search: Search) -> bool:
        """Whether an entry of the scope is what the search asks for."""
        is_ours = entry.fingerprint == search.fingerprint
        return is_ours and is_live(entry, search.now, self.era)

    def _sweep(self, now: int) -> int:
        """Delete up to `CHUNK` dead entries; return how many."""
        expired = edge.FieldCondition("expires_at", range=edge.RangeFloat(lte=now))
        flushed: list[Any] = [
            edge.FieldCondition("epoch", range=edge.RangeFloat(lt=self._meta.epoch)),
            edge.FieldCondition("created_at", range=edge.RangeFloat(lt=self._meta.since)),
        ]
        swept = self._delete_matching(edge.Filter(must=[expired]), "expired")
        return swept or self._delete_matching(edge.Filter(should=flushed), "flushed")

    def _delete_matching(self, dead: edge.Filter, counter: str) -> int:
        """Delete up to `CHUNK` entries that a filter names."""
        request = edge.ScrollRequest(limit=CHUNK, filter=dead, with_payload=False)
        with as_store_error("sweep"):
            records, _ = self._shard.scroll(request)
        return self._delete_chunk([_to_uuid(record.id) for record in records], counter)

    def _count_bytes(self) -> int:
        """Count the bytes of the next entries after a start; return of how many."""
        if self._ledger.is_whole:
            return 0
        after = self._ledger.counted
        # The engine's offset includes the entry it names.
        request = edge.ScrollRequest(offset=after, limit=COUNT, with_payload=["bytes"])
        with as_store_error("count"):
            records, _ = self._shard.scroll(request)
        page = [(_to_uuid(one.id), int((one.payload or {})["bytes"])) for one in records]
        page = [one for one in page if one[0] != after]
        self._ledger.count(page)
        return len(page)

    def _evict(self) -> int:
        """Delete up to `EVICT` of the weakest entries while a bound is passed; return how many."""
        excess = self.bounds.excess(self.count(), self._ledger.bytes)
        if excess == (0, 0):
            return 0
        weakest = edge.ScrollRequest(
            limit=EVICT,
            with_payload=["bytes"],
            order_by=edge.OrderBy("crf", edge.Direction.Asc),
        )
        with as_store_error("evict"):
            records, _ = self._shard.scroll(weakest)
        sizes = {_to_uuid(one.id): int((one.payload or {})["bytes"]) for one in records}
        return self._delete_chunk(victims(sizes, sizes.__getitem__, excess), "evicted")

    def _delete_chunk(self, ids: Sequence[UUID], counter: str = "") -> int:
        """Delete at most `CHUNK` points, count them in the meta; return how many there were."""
        with as_store_error("delete"):
            records = self._shard.retrieve(list(ids), ["bytes"], False)
            there = {_to_uuid(one.id): int((one.payload or {})["bytes"]) for one in records}
            if there:
                # The lower floor first: the other way round, a kill in between would make
                # a sound store look damaged.
                changed = {"floor": max(0, self._meta.floor - len(there))}
                if counter:
                    changed[counter] = getattr(self._meta, counter) + len(there)
                self._remember(replace(self._meta, **changed))
                self._shard.update(edge.UpdateOperation.delete_points(list(there)))
                self._unsaved += len(there)
        for entry_id, size in there.items():
            self._ledger.note(entry_id, -size)
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
        fields = {name: {**_SINCE_THEN, **payload}[name] for name in _FIELDS}
    except KeyError as error:
        raise StoreError(f"a stored point must have `{error.args[0]}`, it does not") from None
    return Entry(id=_to_uuid(point.id), vector=vector, **fields)


def _to_uuid(point_id: object) -> UUID:
    """Ids go in as UUIDs and come back as UUIDs."""
    if not isinstance(point_id, UUID):
        raise StoreError(f"a stored id must be a UUID, got {type(point_id).__name__}")
    return point_id
