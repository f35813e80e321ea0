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
from dataclasses import dataclass
from typing import Any, Final
from uuid import UUID

import httpx
import numpy as np
from qdrant_client import AsyncQdrantClient, models
from qdrant_client.common.client_exceptions import ResourceExhaustedResponse
from qdrant_client.http.exceptions import ResponseHandlingException, UnexpectedResponse

from nearhit.config import StoreSettings
from nearhit.errors import StoreError
from nearhit.store.base import Entry, Search, check_entry

SCHEMA: Final = 1
"""Version of what a collection holds."""

MARKER: Final = UUID("6e656172-6869-7400-8000-000000000001")  # no UUIDv5: no entry has it
MIN_VERSION: Final = (1, 17)  # `update_mode`, which `exchange` and `insert` rest on
CHUNK: Final = 256
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
)
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
    "epoch": _NUMBER,
    "expires_at": _AT,
    "created_at": _AT,
    "nearhit_epoch": _NUMBER,
}


@dataclass(frozen=True, slots=True)
class State:
    """What the marker says: entries of another epoch are flushed."""

    epoch: int


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

    async def open(self, settings: StoreSettings, owner: str, epoch: int = 0) -> State:
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

    async def _mark(self, owner: str, epoch: int) -> State:
        """Read the marker; write it into a collection that holds nothing else."""
        marker = await self._marker()
        if marker is None:
            if (await self._client.count(self._name, exact=False)).count:
                raise StoreError(
                    f"`store.collection` must be empty or nearhit's own, {self._name} holds points "
                    "of something else; name another collection"
                )
            payload = {"nearhit_schema": SCHEMA, "nearhit_owner": owner, "nearhit_epoch": epoch}
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
        return _state_of(marker)

    async def _marker(self) -> dict[str, Any] | None:
        records = await self._client.retrieve(self._name, [str(MARKER)], with_payload=True)
        return next((dict(record.payload or {}) for record in records), None)

    # ---- read --------------------------------------------------------------------------------

    async def state(self) -> State:
        """Return what the marker says.

        Raises:
            StoreError: it is gone.
        """
        return _state_of(await self._marker() or {})

    async def get(self, entry_id: UUID) -> tuple[Entry | None, State]:
        """Return the entry, and with the same call what is flushed."""
        records = await self._client.retrieve(
            self._name, [str(entry_id), str(MARKER)], with_payload=True, with_vectors=True
        )
        by_id = {UUID(str(record.id)): record for record in records}
        marker = by_id.get(MARKER)
        state = _state_of({} if marker is None else marker.payload or {})
        found = by_id.get(entry_id)
        return (None if found is None else self._to_entry(found)), state

    async def nearest(self, search: Search, epoch: int, *, is_quantised: bool) -> list[Entry]:
        """Return the nearest live entries, about in order."""
        rescored = models.QuantizationSearchParams(rescore=True, oversampling=_OVERSAMPLING)
        response = await self._client.query_points(
            self._name,
            query=search.vector.tolist(),
            query_filter=models.Filter(
                must=[
                    _is("scope", search.scope),
                    _is("fingerprint", search.fingerprint),
                    _is("epoch", epoch),
                    _range("expires_at", gt=search.now),
                ]
            ),
            search_params=models.SearchParams(quantization=rescored) if is_quantised else None,
            limit=search.limit,
            with_payload=True,
            with_vectors=True,
        )
        return [entry for entry in map(self._to_entry, response.points) if entry is not None]

    async def stale(
        self, fingerprint: str, after: UUID | None, limit: int, now: int, epoch: int
    ) -> tuple[list[Entry], int]:
        """Return live entries of other encoders, by id, and how many there are."""
        wanted = models.Filter(
            must=[_is("epoch", epoch), _range("expires_at", gt=now)],
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
        stored = await self._client.retrieve(self._name, ids, with_payload=["signature", "hits"])
        payload = next((record.payload or {} for record in stored), {})
        if payload.get("signature") != signature:
            return False
        point = _to_point(entry)
        point.payload = {**(point.payload or {}), "hits": _count_of(payload)}
        await self._client.upsert(
            self._name,
            [point],
            wait=True,
            update_filter=models.Filter(must=[_is("signature", signature)]),
            update_mode=models.UpdateMode.UPDATE_ONLY,
        )
        stored = await self._client.retrieve(self._name, ids, with_payload=["signature"])
        return any((record.payload or {}).get("signature") == entry.signature for record in stored)

    async def touch(self, entry_id: UUID, hits: int) -> None:
        """Add to the hit count: read, then written, so of two at once one may be lost."""
        ids = [str(entry_id)]
        for record in await self._client.retrieve(self._name, ids, with_payload=["hits"]):
            total = _count_of(record.payload or {}) + hits
            # By filter: an id that has gone meanwhile would be an error.
            await self._client.set_payload(
                self._name, {"hits": total}, points=_these(ids), wait=True
            )

    async def delete(self, ids: Sequence[UUID]) -> None:
        """Remove these entries."""
        named = [str(entry_id) for entry_id in ids if entry_id != MARKER]
        for start in range(0, len(named), CHUNK):
            chunk: list[Any] = list(named[start : start + CHUNK])
            await self._client.delete(self._name, models.PointIdsList(points=chunk), wait=True)

    async def flush(self) -> State:
        """Begin a new epoch. Never goes back: who was late finds another's, which flushed too."""
        before = await self.state()
        await self.advance(before.epoch, before.epoch + 1)
        return await self.state()

    async def advance(self, epoch: int, to: int) -> None:
        """Set the epoch, if it is still this one, in one step."""
        await self._client.set_payload(
            self._name,
            {"nearhit_epoch": to},
            points=models.Filter(
                must=[models.HasIdCondition(has_id=[str(MARKER)]), _is("nearhit_epoch", epoch)]
            ),
            wait=True,
            ordering=models.WriteOrdering.STRONG,
        )

    async def sweep(self, now: int, epoch: int) -> int:
        """Delete up to `CHUNK` dead entries; return how many were found."""
        dead: list[Any] = [_range("expires_at", lte=now), _range("epoch", lt=epoch)]
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
        """Delete up to `CHUNK` of the oldest entries; return how many."""
        records, _ = await self._client.scroll(
            self._name,
            limit=min(CHUNK, excess),
            with_payload=False,
            order_by=models.OrderBy(key="created_at", direction=models.Direction.ASC),
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


def _state_of(marker: dict[str, Any]) -> State:
    epoch = marker.get("nearhit_epoch")
    if type(epoch) is not int:
        raise StoreError(
            "the collection must hold nearhit's marker, it does not; it was emptied or made anew"
        )
    return State(epoch)


def _count_of(payload: dict[str, Any]) -> int:
    hits = payload.get("hits")
    return hits if type(hits) is int and hits >= 0 else 0


def _to_point(entry: Entry) -> models.PointStruct:
    vector: Any = {} if entry.vector is None else entry.vector.tolist()
    payload = {name: getattr(entry, name) for name in _FIELDS}
    return models.PointStruct(id=str(entry.id), vector=vector, payload=payload)


def _these(ids: list[Any]) -> models.Filter:
    return models.Filter(must=[models.HasIdCondition(has_id=ids)])


def _is(name: str, value: str | int) -> models.FieldCondition:
    return models.FieldCondition(key=name, match=models.MatchValue(value=value))


def _range(name: str, **bounds: int) -> models.FieldCondition:
    return models.FieldCondition(key=name, range=models.Range(**bounds))
