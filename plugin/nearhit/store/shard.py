"""Open or make the shard of a store folder, and tell damage from mere refusal.

Errors of Qdrant Edge are bare exceptions with a text, and a Rust panic is not even an
`Exception`: `as_store_error` is the one boundary where they become a `StoreError`.
"""

import contextlib
from collections.abc import Iterator
from pathlib import Path

import qdrant_edge as edge

from nearhit.errors import StoreError
from nearhit.store.folder import MAX_OPENINGS, SCHEMA, SHARD, Meta, begin_opening, end_opening

# A failure with one of these texts says nothing about the data, which must then stay.
_NOT_DAMAGE = ("WouldBlock", "os error 11)", "No space left", "Permission denied", "Too many open")


TENANT = "tenant"


def unusable(meta: Meta | None, dimension: int) -> str | None:
    """Why a store must not be loaded, beginning with the name that it is moved to."""
    if meta is None:
        return "damaged: its meta cannot be read"
    if meta.schema != SCHEMA:
        return f"schema-{meta.schema}: this version reads schema {SCHEMA}"
    if meta.dimension != dimension:
        return f"dimension-{meta.dimension}: the encoder's is {dimension}"
    return None


def load(store: Path) -> edge.EdgeShard | str:
    """The shard, or in what way it is damaged."""
    if begin_opening(store) > MAX_OPENINGS:
        return f"damaged: the last {MAX_OPENINGS} openings did not end"
    try:
        with as_store_error("load"):
            shard = edge.EdgeShard.load(str(store / SHARD))
            # Stores of before it was there; again it changes nothing.
            shard.update(edge.UpdateOperation.create_field_index(TENANT, edge.KeywordIndexParams()))
    except StoreError as error:
        end_opening(store)
        if any(text in str(error) for text in _NOT_DAMAGE):
            raise
        return f"damaged: {error}"
    end_opening(store)
    return shard


def create(path: Path, dimension: int) -> edge.EdgeShard:
    """A new shard with its payload indexes."""
    config = edge.EdgeConfig(
        vectors=edge.EdgeVectorParams(
            size=dimension,
            distance=edge.Distance.Cosine,
            # Half of float32's size; similarities move by 8e-5 at most.
            datatype=edge.VectorStorageDatatype.Float16,
            # Read first, in half of the time; the nearest are compared again in half precision.
            quantization_config=edge.TurboQuantQuantizationConfig(
                bits=edge.TurboQuantBitSize.Bits8
            ),
        ),
        optimizers=edge.EdgeOptimizersConfig(
            deleted_threshold=0.2,
            vacuum_min_vector_number=1000,
            default_segment_number=1,
            max_segment_size=None,
            indexing_threshold=0,
        ),
        max_search_threads=1,
        # Without the log kill -9 lost 35,669 of 39,632 acknowledged writes; with it none.
        wal_enabled=True,
    )
    operation = edge.UpdateOperation
    at = edge.IntegerIndexParams(lookup=False, range=True)
    with as_store_error("create"):
        shard = edge.EdgeShard.create(str(path), config)
        for name, index in (
            ("scope", edge.KeywordIndexParams(is_tenant=True)),
            ("fingerprint", edge.KeywordIndexParams()),
            (TENANT, edge.KeywordIndexParams()),
            ("epoch", edge.IntegerIndexParams(lookup=True, range=True)),
            ("expires_at", at),
            ("created_at", at),
            ("crf", at),
        ):
            shard.update(operation.create_field_index(name, index))
        shard.flush()
    return shard


def points_of(shard: edge.EdgeShard) -> int:
    """Number of points; 4 us."""
    return int(shard.info().points_count)


@contextlib.contextmanager
def as_store_error(operation: str) -> Iterator[None]:
    """Turn the engine's bare exceptions into a `StoreError`."""
    try:
        yield
    except StoreError:
        raise
    except Exception as error:  # noqa: BLE001 - the engine raises nothing narrower
        # A failed write may show what was written, which is someone's prompt.
        detail = type(error).__name__ if operation in ("put", "touch") else str(error)[:300]
        raise StoreError(f"the store engine failed to {operation}: {detail}") from None
    except BaseException as error:
        # A Rust panic arrives as a BaseException that no public name exists for.
        if type(error).__name__ != "PanicException":
            raise
        raise StoreError(f"the store engine panicked in {operation}") from None
