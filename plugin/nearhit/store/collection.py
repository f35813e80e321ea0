"""One collection of a Qdrant server: all that nearhit knows of `qdrant-client`.

Not imported where nothing asks for a server: the client takes a second and 90 MB to import. What
fails here fails with the client's own exceptions; `describe` puts one into words that show no
prompt and no key, `is_passing` tells whether to try again.

A point is an entry, its id the entry's. One more point, the marker, says that the collection is
nearhit's and carries what has been flushed, so that all proxies obey.
"""

import asyncio
import warnings
from collections.abc import Mapping, Sequence
from typing import Any, Final
from uuid import UUID

import httpx
import numpy as np
from qdrant_client import AsyncQdrantClient, models
from qdrant_client.common.client_exceptions import ResourceExhaustedResponse
from qdrant_client.http.exceptions import ResponseHandlingException, UnexpectedResponse

from nearhit.config import StoreSettings
from nearhit.errors import StoreError
from nearhit.store.base import Browse, Entry, Era, Listing, Search, check_entry
from nearhit.store.eviction import after_hits, at_first

SCHEMA: Final = 1
"""Version of what a collection holds."""

MARKER: Final = UUID("6e656172-6869-7400-8000-000000000001")  # no UUIDv5: no entry has it
MIN_VERSION: Final = (1, 17)  # `update_mode`, which `exchange` and `insert` rest on
CHUNK: Final = 256
SCAN: Final = 200  # questions that one call of `browse` compares with a text
_BATCH_BYTES: Final = 8 * 2**20  # a server takes requests of 32 MB unless told otherwise
_CLIENT_TIMEOUT_S: Final = 10  # in whole seconds only: deadlines are the caller's
_OVERSAMPLING: Final = 2.0

_FIELDS: Final = (
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
# What a write must know of the entry; `crf` is its place among those to evict, see `eviction`.
_NOTES: Final = ["hits", "signature", "crf"]
_AT: Final = models.IntegerIndexParams(
    type=models.IntegerIndexType.INTEGER, lookup=False, range=True
)
_NUMBER: Final = models.IntegerIndexParams(
    type=models.IntegerIndexType.INTEGER, lookup=True, range=True
)
_KEYWORD: Final = models.KeywordIndexType.KEYWORD
INDEXES: Final[Mapping[str, models.KeywordIndexParams | models.IntegerIndexParams]] = {
    "scope": models.KeywordIndexParams(type=_KEYWORD, is_tenant=True),
    "fingerprint": models.KeywordIndexParams(type=_KEYWORD),
    "tenant": models.KeywordIndexParams(type=_KEYWORD),
    "epoch": _NUMBER,
    "expires_at": _AT,
    "created_at": _AT,
    "crf": _AT,
    "nearhit_epoch": _NUMBER,
    "nearhit_since": _AT,
}


def make_client(settings: StoreSettings) -> AsyncQdrantClient:
    """Return a client that has not connected yet. Reads certificates: not for an event loop."""
    key = None if settings.api_key is None else settings.api_key.get_secret_value()
    with warnings.catch_warnings():
        # The client warns of a key without TLS; `server` says so in the log, once.
        warnings.simplefilter("ignore", UserWarning)
        return AsyncQdrantClient(
            url=settings.url,
            api_key=key,
            prefer_grpc=settings.prefer_grpc,
            grpc_port=settings.grpc_port,
            timeout=_CLIENT_TIMEOUT_S,
            # Its check of versions is a thread that ends in a warning; `open` has its own.
            check_compatibility=False,
            # On loopback the client would open a connection for each call.
            limits=httpx.Limits(max_keepalive_connections=32),
        )


def is_passing(error: Exception) -> bool:
    """Tell whether the same call may succeed in a moment."""
    match error:
        case UnexpectedResponse(status_code=int(status)):
            return status >= 500 or status == 429
        case ResponseHandlingException(source=source):
            return isinstance(source, httpx.TransportError)
        case ResourceExhaustedResponse():
            return True
    return _grpc_code(error) in ("UNAVAILABLE", "RESOURCE_EXHAUSTED", "ABORTED", "INTERNAL")


def describe(error: Exception) -> str:
    """Say what failed without what was sent or answered, which may be someone's prompt."""
    match error:
        case UnexpectedResponse(status_code=int(status)):
            return f"HTTP {status}"
        case ResponseHandlingException(source=source):
            return type(source).__name__
    return _grpc_code(error) or type(error).__name__


def _grpc_code(error: Exception) -> str:
    """The name of a gRPC status; "" for other errors."""
    code = getattr(error, "code", None)
    return str(getattr(code(), "name", "")) if callable(code) else ""


class Collection:
    """The points of one collection.

    Args:
        client: a client of the server; `close` closes it.
        name: of the collection.
        dimension: length of every vector.
    """

    def __init__(self, client: AsyncQdrantClient, name: str, dimension: int) -> None:
        self._client = client
        self._name = name
        self._dimension = dimension

    # ---- begin and end -----------------------------------------------------------------------

    async def open(self, settings: StoreSettings, owner: str, epoch: int = 0) -> Era:
        """Make the collection, or check the one that is there.

        Args:
            settings: what a new collection is made with.
            owner: digest of the installation's secret.
            epoch: of a collection that holds nothing yet.

        Raises:
            StoreError: it is not nearhit's, or of another dimension, distance, schema or secret.
        """
        await self._check_version()
        if not await self._client.collection_exists(self._name):
            try:
                await self._create(settings)
            except UnexpectedResponse:
                # Another proxy was first, or the server refuses: then the next line says so.
                if not await self._client.collection_exists(self._name):
                    raise
        info = await self._client.get_collection(self._name)
        self._check_vectors(info.config.params.vectors)
        for name, index in INDEXES.items():
            if name not in (info.payload_schema or {}):
                await self._client.create_payload_index(self._name, name, index)
        return await self._mark(owner, epoch)

    async def close(self) -> None:
        """Close the client."""
        await self._client.close()

    async def _check_version(self) -> None:
        version = str((await self._client.info()).version)
        try:
            major, minor = (int(part) for part in version.split(".")[:2])
        except ValueError:
            raise StoreError(
                f"`store.url` must be a Qdrant server, got one of version {version[:20]!r}"
            ) from None
        if (major, minor) < MIN_VERSION:
            raise StoreError(
                f"the Qdrant server must be of version {MIN_VERSION[0]}.{MIN_VERSION[1]} or later, "
                f"got {version[:20]}; update it"
            )

    async def _create(self, settings: StoreSettings) -> None:
        quantised = settings.quantization == "int8"
        await self._client.create_collection(
            self._name,
            vectors_config=models.VectorParams(
                size=self._dimension,
                distance=models.Distance.COSINE,
                datatype=models.Datatype.FLOAT16,
                # Quantised vectors are searched in memory, the originals read for the few best.
                on_disk=quantised,
            ),
            # Every search names its scope: links within scopes and no graph over all.
            # Source: qdrant.tech/documentation/manage-data/multitenancy, "Calibrate performance".
            hnsw_config=models.HnswConfigDiff(m=0, payload_m=16),
            quantization_config=models.ScalarQuantization(
                scalar=models.ScalarQuantizationConfig(
                    type=models.ScalarType.INT8, quantile=0.99, always_ram=True
                )
            )
            if quantised
            else None,
            on_disk_payload=True,
            shard_number=settings.shards,
            replication_factor=settings.replication_factor,
            write_consistency_factor=settings.write_consistency_factor,
        )

    def _check_vectors(self, vectors: Any) -> None:
        """Refuse a collection whose vectors are not ours."""
        if not isinstance(vectors, models.VectorParams):
            raise StoreError(
                f"`store.collection` must have one unnamed vector a point, {self._name} has "
                "others; name another collection"
            )
        if vectors.size != self._dimension:
            raise StoreError(
                f"`store.collection` must have the encoder's dimension {self._dimension}, "
                f"{self._name} has {vectors.size}; name another collection"
            )
        if vectors.distance != models.Distance.COSINE:
            raise StoreError(
                f"`store.collection` must have the distance Cosine, {self._name} has "
                f"{vectors.distance.value}; name another collection"
            )

    async def _mark(self, owner: str, epoch: int) -> Era:
        """Read the marker; write it into a collection that holds nothing else."""
        marker = await self._marker()
        if marker is None:
            if (await self._client.count(self._name, exact=False)).count:
                raise StoreError(
                    f"`store.collection` must be empty or nearhit's own, {self._name} holds points "
                    "of something else; name another collection"
                )
            payload = {
                "nearhit_schema": SCHEMA,
                "nearhit_owner": owner,
                "nearhit_epoch": epoch,
                "nearhit_since": 0,
            }
            point = models.PointStruct(id=str(MARKER), vector={}, payload=payload)
            await self._client.upsert(
                self._name, [point], wait=True, update_mode=models.UpdateMode.INSERT_ONLY
            )
            marker = await self._marker() or {}
        if marker.get("nearhit_schema") != SCHEMA:
            raise StoreError(
                f"`store.collection` must be of schema {SCHEMA}, {self._name} has another; use the "
                "version of nearhit that made it, or name another collection"
            )
        if marker.get("nearhit_owner") != owner:
            raise StoreError(
                f"`secret` must be the one that {self._name} was made with, got another; set the "
                "same NEARHIT_SECRET on all machines, or name another collection"
            )
        return _era_of(marker)

    async def _marker(self) -> dict[str, Any] | None:
        records = await self._client.retrieve(self._name, [str(MARKER)], with_payload=True)
        return next((dict(record.payload or {}) for record in records), None)

    # ---- read --------------------------------------------------------------------------------

    async def era(self) -> Era:
        """Return what the marker says.

        Raises:
            StoreError: it is gone.
        """
        return _era_of(await self._marker() or {})

    async def get(self, entry_id: UUID) -> tuple[Entry | None, Era]:
        """Return the entry, and with the same call what is flushed."""
        records = await self._client.retrieve(
            self._name, [str(entry_id), str(MARKER)], with_payload=True, with_vectors=True
        )
        by_id = {UUID(str(record.id)): record for record in records}
        marker = by_id.get(MARKER)
        era = _era_of({} if marker is None else marker.payload or {})
        found = by_id.get(entry_id)
        return (None if found is None else self._to_entry(found)), era

    async def nearest(self, search: Search, era: Era, *, is_quantised: bool) -> list[Entry]:
        """Return the nearest live entries of a scope, about in order."""
        return await self._nearest(
            search, era, [_is("scope", search.scope)], is_quantised=is_quantised
        )

    async def _nearest(
        self, search: Search, era: Era, among: list[Any], *, is_quantised: bool
    ) -> list[Entry]:
        """The nearest live entries among those of some conditions, whatever the scope."""
        rescored = models.QuantizationSearchParams(rescore=True, oversampling=_OVERSAMPLING)
        response = await self._client.query_points(
            self._name,
            query=search.vector.tolist(),
            query_filter=models.Filter(
                must=[
                    *among,
                    _is("fingerprint", search.fingerprint),
                    *_live(search.now, era),
                ]
            ),
            search_params=models.SearchParams(quantization=rescored) if is_quantised else None,
            limit=search.limit,
            with_payload=True,
            with_vectors=True,
        )
        return [entry for entry in map(self._to_entry, response.points) if entry is not None]

    async def stale(
        self, fingerprint: str, after: UUID | None, limit: int, now: int, era: Era
    ) -> tuple[list[Entry], int]:
        """Return live entries of other encoders, by id, and how many there are."""
        wanted = models.Filter(
            must=_live(now, era),
            must_not=[
                models.FieldCondition(
                    key="fingerprint", match=models.MatchAny(any=[fingerprint, ""])
                )
            ],
        )
        # The offset includes the point that it names: one more is asked for and dropped.
        (records, _), counted = await asyncio.gather(
            self._client.scroll(
                self._name,
                scroll_filter=wanted,
                offset=None if after is None else str(after),
                limit=limit + 1,
                with_payload=True,
                with_vectors=False,
            ),
            self._client.count(self._name, count_filter=wanted, exact=True),
        )
        found = [self._to_entry(record, has_vector=False) for record in records]
        entries = [entry for entry in found if entry is not None and entry.id != after]
        return entries[:limit], counted.count

    async def browse(self, browse: Browse, era: Era, *, is_quantised: bool) -> Listing:
        """Return live entries of all scopes. See `Store.browse`."""
        among: list[Any] = [] if browse.tenant is None else [_is("tenant", browse.tenant)]
        if browse.vector is not None:
            search = Search("", browse.fingerprint, browse.vector, browse.limit, browse.now)
            return Listing(await self._nearest(search, era, among, is_quantised=is_quantised), None)
        # The offset includes the point that it names: one more is asked for and dropped.
        seen = SCAN if browse.contains else browse.limit
        records, _ = await self._client.scroll(
            self._name,
            scroll_filter=models.Filter(must=[*among, *_live(browse.now, era)]),
            offset=None if browse.after is None else str(browse.after),
            limit=seen + 2,
            with_payload=["text"],
            with_vectors=False,
        )
        found = [record for record in records if UUID(str(record.id)) != browse.after]
        contains = browse.contains.casefold()
        wanted: list[str] = []
        for position, record in enumerate(found[:seen]):
            if contains in str((record.payload or {}).get("text", "")).casefold():
                wanted.append(str(record.id))
            if len(wanted) == browse.limit:
                seen = position + 1
                break
        # Their answers only now: of many that were looked at few may be wanted.
        whole = await self._client.retrieve(self._name, wanted) if wanted else []
        entries = [self._to_entry(record, has_vector=False) for record in whole]
        return Listing(
            sorted((entry for entry in entries if entry is not None), key=lambda each: each.id),
            UUID(str(found[seen - 1].id)) if len(found) > seen else None,
        )

    async def held(self, ids: Sequence[UUID]) -> set[UUID]:
        """Return which of these entries are there."""
        records = await self._client.retrieve(
            self._name, [str(entry_id) for entry_id in ids], with_payload=False
        )
        return {UUID(str(record.id)) for record in records}

    async def count(self) -> int:
        """Return about how many entries there are; exact while nothing is optimised."""
        return max(0, (await self._client.count(self._name, exact=False)).count - 1)

    # ---- write -------------------------------------------------------------------------------

    async def put(self, entry: Entry) -> None:
        """Insert or replace the entry."""
        await self._client.upsert(self._name, [_to_point(entry)], wait=True)

    async def insert(self, entries: Sequence[Entry]) -> None:
        """Insert those entries whose id is not there, in requests of bounded size."""
        batch: list[models.PointStruct] = []
        size = 0
        for entry in entries:
            if batch and size + len(entry.completion) > _BATCH_BYTES:
                await self._insert(batch)
                batch, size = [], 0
            batch.append(_to_point(entry))
            size += len(entry.completion)
        if batch:
            await self._insert(batch)

    async def _insert(self, points: list[models.PointStruct]) -> None:
        await self._client.upsert(
            self._name, points, wait=True, update_mode=models.UpdateMode.INSERT_ONLY
        )

    async def exchange(self, signature: str, entry: Entry) -> bool:
        """Replace the entry that still carries the signature, and tell whether."""
        ids = [str(entry.id)]
        stored = await self._client.retrieve(self._name, ids, with_payload=_NOTES)
        payload = next((record.payload or {} for record in stored), {})
        if payload.get("signature") != signature:
            return False
        point = _to_point(entry)
        kept = {"hits": _count_of(payload, "hits"), "crf": _count_of(payload, "crf")}
        point.payload = {**(point.payload or {}), **kept}
        await self._client.upsert(
            self._name,
            [point],
            wait=True,
            update_filter=models.Filter(must=[_is("signature", signature)]),
            update_mode=models.UpdateMode.UPDATE_ONLY,
        )
        stored = await self._client.retrieve(self._name, ids, with_payload=["signature"])
        return any((record.payload or {}).get("signature") == entry.signature for record in stored)

    async def touch(self, entry_id: UUID, hits: int, now: int) -> None:
        """Count hits: read, then written, so of two at once one may be lost."""
        ids = [str(entry_id)]
        for record in await self._client.retrieve(self._name, ids, with_payload=_NOTES):
            payload = record.payload or {}
            counted = {
                "hits": _count_of(payload, "hits") + hits,
                "crf": after_hits(_count_of(payload, "crf"), hits, now),
            }
            # By filter: an id that has gone meanwhile would be an error.
            await self._client.set_payload(self._name, counted, points=_these(ids), wait=True)

    async def delete(self, ids: Sequence[UUID]) -> None:
        """Remove these entries."""
        named = [str(entry_id) for entry_id in ids if entry_id != MARKER]
        for start in range(0, len(named), CHUNK):
            chunk: list[Any] = list(named[start : start + CHUNK])
            await self._client.delete(self._name, models.PointIdsList(points=chunk), wait=True)

    async def flush(self, before: int | None) -> Era:
        """Begin a new epoch, or forget what is of before a Unix second.

        Never goes back: who was late finds another's, which flushed as much.
        """
        if before is None:
            epoch = (await self.era()).epoch
            # Nothing of before is left to be older, as in `Engine.flush`.
            changed = {"nearhit_epoch": epoch + 1, "nearhit_since": 0}
            await self._remember(changed, _is("nearhit_epoch", epoch))
        else:
            await self._remember({"nearhit_since": before}, _range("nearhit_since", lt=before))
        return await self.era()

    async def _remember(self, changed: dict[str, int], still: models.FieldCondition) -> None:
        """Change the marker, if a condition still holds of it, in one step."""
        await self._client.set_payload(
            self._name,
            changed,
            points=models.Filter(must=[models.HasIdCondition(has_id=[str(MARKER)]), still]),
            wait=True,
            ordering=models.WriteOrdering.STRONG,
        )

    async def sweep(self, now: int, era: Era) -> int:
        """Delete up to `CHUNK` dead entries; return how many were found."""
        dead: list[Any] = [
            _range("expires_at", lte=now),
            _range("epoch", lt=era.epoch),
            _range("created_at", lt=era.since),
        ]
        records, _ = await self._client.scroll(
            self._name,
            scroll_filter=models.Filter(should=dead),
            limit=CHUNK,
            with_payload=False,
        )
        if records:
            # Dead still, as well as named: an id may have been stored anew meanwhile.
            wanted = _these([str(record.id) for record in records])
            wanted.should = dead
            await self._client.delete(self._name, models.FilterSelector(filter=wanted), wait=True)
        return len(records)

    async def evict(self, excess: int) -> int:
        """Delete up to `CHUNK` of the entries least and longest ago asked for; return how many."""
        records, _ = await self._client.scroll(
            self._name,
            limit=min(CHUNK, excess),
            with_payload=False,
            order_by=models.OrderBy(key="crf", direction=models.Direction.ASC),
        )
        await self.delete([UUID(str(record.id)) for record in records])
        return len(records)

    def _to_entry(self, point: Any, *, has_vector: bool = True) -> Entry | None:
        """The entry that a point holds; None for what nearhit did not write."""
        payload = point.payload or {}
        vector = None
        if has_vector and isinstance(point.vector, list) and point.vector:
            vector = np.array(point.vector, dtype=np.float32)
        try:
            fields = {name: payload[name] for name in _FIELDS}
            entry = Entry(id=UUID(str(point.id)), vector=vector, **fields)
            if has_vector:
                check_entry(entry, self._dimension)
        except (KeyError, ValueError, TypeError, StoreError):
            return None
        return entry


def _era_of(marker: dict[str, Any]) -> Era:
    epoch, since = marker.get("nearhit_epoch"), marker.get("nearhit_since")
    if type(epoch) is not int or type(since) is not int:
        raise StoreError(
            "the collection must hold nearhit's marker, it does not; it was emptied or made anew"
        )
    return Era(epoch, since)


def _count_of(payload: dict[str, Any], name: str) -> int:
    count = payload.get(name)
    return count if type(count) is int and count >= 0 else 0


def _to_point(entry: Entry) -> models.PointStruct:
    vector: Any = {} if entry.vector is None else entry.vector.tolist()
    payload = {name: getattr(entry, name) for name in _FIELDS}
    payload["crf"] = at_first(entry.created_at)
    return models.PointStruct(id=str(entry.id), vector=vector, payload=payload)


def _live(now: int, era: Era) -> list[Any]:
    """Conditions that `is_live` holds."""
    return [
        _is("epoch", era.epoch),
        _range("expires_at", gt=now),
        _range("created_at", gte=era.since),
    ]


def _these(ids: list[Any]) -> models.Filter:
    return models.Filter(must=[models.HasIdCondition(has_id=ids)])


def _is(name: str, value: str | int) -> models.FieldCondition:
    return models.FieldCondition(key=name, match=models.MatchValue(value=value))


def _range(name: str, **bounds: int) -> models.FieldCondition:
    return models.FieldCondition(key=name, range=models.Range(**bounds))
