"""What a store keeps and what it promises. No engine and no I/O here.

Every backend checks entries with `check_entry` before they leave and with `rank` or
`is_live` when they come back: an engine's filter is an optimisation, never the guarantee.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol
from uuid import UUID

import numpy as np
from numpy.typing import NDArray

from nearhit.errors import StoreError

MAX_ENTRY_BYTES = 8 * 2**20
MAX_LIMIT = 100
MAX_INT = 2**53  # the engine compares ranges as doubles: beyond it two ints may look equal
UNIT_TOLERANCE = 1e-3

Vector = NDArray[np.float32]


@dataclass(frozen=True, slots=True, eq=False)
class Entry:
    """One stored answer.

    Attributes:
        id: UUIDv5 of a keyed digest of scope and normalised text, made by the caller.
        scope: Hex digest of the tenant and of all that must be equal.
        fingerprint: Encoder artefact that made `vector`; "" without a vector (exact only).
        text: The question.
        completion: The answer, an opaque JSON string.
        model: The model that answered.
        created_at: Unix seconds.
        expires_at: Unix seconds; from this second on the entry is gone.
        epoch: The store's epoch at writing; an entry of another epoch is flushed.
        signature: HMAC in hex, made and checked by the caller. Leave `vector` and `hits`
            out of what it covers: a store may round the one and counts up the other.
        hits: How often it was served.
        vector: float32 `(dimension,)`, unit length; may come back rounded to half
            precision.
        tenant: Keyed digest of whose it is, for people who look on; "" where older versions
            stored it. No answer is served by it: the scope holds the tenant too.
    """

    id: UUID
    scope: str
    fingerprint: str
    text: str
    completion: str
    model: str
    created_at: int
    expires_at: int
    epoch: int
    signature: str
    hits: int = 0
    vector: Vector | None = None
    tenant: str = ""


@dataclass(frozen=True, slots=True, eq=False)
class Neighbour:
    """An entry and its cosine to the vector that was asked for, in [-1, 1]."""

    entry: Entry
    similarity: float


@dataclass(frozen=True, slots=True, eq=False)
class Search:
    """What `Store.search` is asked: at most `limit` live entries of one scope and encoder."""

    scope: str
    fingerprint: str
    vector: Vector
    limit: int
    now: int


@dataclass(frozen=True, slots=True)
class Era:
    """What a store has not flushed.

    Attributes:
        epoch: entries of another epoch are flushed.
        since: Unix seconds; entries of an earlier second are flushed.
    """

    epoch: int
    since: int = 0


@dataclass(frozen=True, slots=True, eq=False)
class Page:
    """Some of the live entries whose vector another encoder made, in the order of their ids.

    Attributes:
        entries: the next ones.
        left: how many there are in all, those before this page included.
    """

    entries: list[Entry]
    left: int


@dataclass(frozen=True, slots=True, eq=False)
class Browse:
    """What a person looks for among live entries of all scopes; never asked for a request.

    Attributes:
        limit: how many at most, 1 to 100; fewer come where answers are large.
        now: Unix seconds.
        after: where the listing before ended; None begins.
        tenant: only this tenant's; None: all.
        contains: only questions with this text in them, in any case; "": all.
        vector: the nearest to it, most similar first, in one listing; None: by id.
        fingerprint: of the encoder that made `vector`.
    """

    limit: int
    now: int
    after: UUID | None = None
    tenant: str | None = None
    contains: str = ""
    vector: Vector | None = None
    fingerprint: str = ""


@dataclass(frozen=True, slots=True, eq=False)
class Listing:
    """Some of the entries that were looked for, and where to go on; None: that was all.

    A listing may be empty and yet have more behind it: each call looks at a bounded number.
    """

    entries: list[Entry]
    next: UUID | None


class Store(Protocol):
    """What every backend does. All methods raise `StoreError` when it cannot be done.

    A call may be cancelled at any time (`asyncio.timeout`): a write then may or may not
    have happened, and the store stays usable.
    """

    async def get(self, entry_id: UUID, now: int) -> Entry | None:
        """Return the entry; None when absent, expired at `now`, or flushed."""

    async def search(
        self, scope: str, fingerprint: str, vector: Vector, limit: int, now: int
    ) -> list[Neighbour]:
        """Return the live entries of `scope` and `fingerprint`, most similar first.

        Args:
            scope: Only entries with exactly this scope.
            fingerprint: Only entries whose vector this encoder made; not "".
            vector: float32 `(dimension,)`, unit length.
            limit: How many at most, 1 to 100.
            now: Unix seconds.
        """

    async def put(self, entry: Entry) -> None:
        """Insert the entry, or replace the one with its id.

        Once it returns, the death of any process loses nothing. An entry of another epoch
        than the store's is dropped without an error: a flush between question and answer
        wins.

        Raises:
            StoreError: A field breaks its rule (the message names it), or no answer came.
        """

    async def touch(self, entry_id: UUID, hits: int, now: int) -> None:
        """Add `hits` to the entry's count; a missing entry is not an error.

        An entry with many and recent hits is evicted late; `expires_at` stays as it is.
        """

    async def delete(self, ids: Sequence[UUID]) -> None:
        """Remove these entries; missing ones are not an error."""

    async def stale(self, fingerprint: str, after: UUID | None, limit: int, now: int) -> Page:
        """Return live entries whose vector is not of the encoder `fingerprint`, without vectors.

        Args:
            fingerprint: Of the encoder whose entries are left out; not "".
            after: The last id of the page before; None begins.
            limit: How many at most, 1 to 100; fewer come where answers are large, none only
                at the end.
            now: Unix seconds.
        """

    async def browse(self, browse: Browse) -> Listing:
        """Return live entries of all scopes; their vectors only where one is looked for."""

    async def exchange(self, signature: str, entry: Entry) -> bool:
        """Replace the entry with `entry`'s id if it still carries `signature`; tell whether.

        In one step, so that an answer which was stored, deleted or flushed meanwhile wins. The
        hit count stays as it is in the store.

        Raises:
            StoreError: As `put`.
        """

    async def flush(self, before: int | None = None) -> int:
        """Forget everything, durably and at once, for all clients; return the epoch after it.

        Args:
            before: Unix seconds; only entries of an earlier second are forgotten, and the epoch
                stays. None: all are, and it is a new one.
        """

    async def epoch(self) -> int:
        """Return the store's epoch, which an entry must carry to be stored and found."""

    async def count(self) -> int:
        """Return how many entries are held, expired and flushed ones until swept."""

    async def stats(self) -> Mapping[str, int | str]:
        """Return counters; a backend may have more than these, and lacks what it cannot count.

        ``points``, which all have, and ``bytes`` are held now, the dead until they are swept;
        ``evicted``, ``expired`` and ``flushed`` were removed since the store was made.
        """

    async def close(self) -> None:
        """Let go of the store; what it holds stays."""


def check_entry(entry: Entry, dimension: int) -> None:
    """Refuse an entry that an engine would store wrongly, in part, or never find again.

    Raises:
        StoreError: Names the field and its rule; never shows its text.
    """
    if not isinstance(entry.id, UUID):
        raise StoreError(f"`entry.id` must be a UUID, got {type(entry.id).__name__}")
    size = 0
    for name in ("scope", "fingerprint", "text", "completion", "model", "signature", "tenant"):
        size += _utf8_size(f"entry.{name}", getattr(entry, name))
    if size > MAX_ENTRY_BYTES:
        raise StoreError(
            f"`entry.completion` and the other texts must be at most {MAX_ENTRY_BYTES} bytes "
            f"together, got {size}; do not cache answers of this size"
        )
    for name in ("created_at", "expires_at", "epoch", "hits"):
        check_int(f"entry.{name}", getattr(entry, name))
    if (entry.vector is None) != (entry.fingerprint == ""):
        raise StoreError("`entry.fingerprint` must be set exactly when `entry.vector` is")
    if entry.vector is not None:
        check_vector("entry.vector", entry.vector, dimension)


def check_search(search: Search, dimension: int) -> None:
    """Refuse a search that no engine can answer well.

    Raises:
        StoreError: Names the argument and its rule.
    """
    _utf8_size("scope", search.scope)
    if not _utf8_size("fingerprint", search.fingerprint):
        raise StoreError("`fingerprint` must not be empty: such entries have no vector")
    check_vector("vector", search.vector, dimension)
    check_int("now", search.now)
    _check_limit(search.limit)


def check_page(fingerprint: str, limit: int, now: int) -> None:
    """Refuse a request for a page that no engine can answer.

    Raises:
        StoreError: Names the argument and its rule.
    """
    if not _utf8_size("fingerprint", fingerprint):
        raise StoreError("`fingerprint` must not be empty: such entries have no vector")
    check_int("now", now)
    _check_limit(limit)


def check_browse(browse: Browse, dimension: int) -> None:
    """Refuse a listing that no engine can give.

    Raises:
        StoreError: Names the argument and its rule.
    """
    _utf8_size("contains", browse.contains)
    _utf8_size("tenant", "" if browse.tenant is None else browse.tenant)
    check_int("now", browse.now)
    _check_limit(browse.limit)
    if browse.vector is not None:
        check_vector("vector", browse.vector, dimension)
        if not _utf8_size("fingerprint", browse.fingerprint):
            raise StoreError("`fingerprint` must not be empty: such entries have no vector")


def check_int(name: str, value: object) -> None:
    """Refuse what is not an int from 0 to 2**53: Edge never matches 1.5 in an int index."""
    if type(value) is not int or not 0 <= value <= MAX_INT:
        got = value if type(value) is int else type(value).__name__
        raise StoreError(f"`{name}` must be an int from 0 to 2**53, got {got}")


def check_vector(name: str, vector: object, dimension: int) -> None:
    """Refuse what is not a unit vector; Edge takes NaN and zeros and never finds them."""
    if not isinstance(vector, np.ndarray) or vector.dtype != np.float32:
        got = vector.dtype if isinstance(vector, np.ndarray) else type(vector).__name__
        raise StoreError(f"`{name}` must be a float32 array, got {got}")
    if vector.shape != (dimension,):
        raise StoreError(f"`{name}` must have shape ({dimension},), got {vector.shape}")
    length = float(np.linalg.norm(vector.astype(np.float64)))
    if not abs(length - 1.0) <= UNIT_TOLERANCE:  # also catches NaN and infinity
        raise StoreError(f"`{name}` must be finite and of unit length, got length {length:.4g}")


def is_live(entry: Entry, now: int, era: Era) -> bool:
    """Tell whether the entry may be served at `now` by a store in `era`."""
    return entry.expires_at > now and entry.epoch == era.epoch and entry.created_at >= era.since


def rank(entries: Iterable[Entry], search: Search, era: Era) -> list[Neighbour]:
    """Drop what the search did not ask for and order the rest, most similar first."""
    found = [
        Neighbour(entry, cosine(search.vector, entry.vector))
        for entry in entries
        if entry.vector is not None
        and entry.scope == search.scope
        and entry.fingerprint == search.fingerprint
        and is_live(entry, search.now, era)
    ]
    found.sort(key=lambda neighbour: neighbour.similarity, reverse=True)
    return found[: search.limit]


def cosine(a: Vector, b: Vector) -> float:
    """Cosine in double precision; half-precision storage leaves lengths up to 2e-4 off one."""
    x, y = a.astype(np.float64), b.astype(np.float64)
    cosine = float(x @ y) / float(np.sqrt((x @ x) * (y @ y)))
    return min(1.0, max(-1.0, cosine))


def _check_limit(limit: object) -> None:
    if type(limit) is not int or not 1 <= limit <= MAX_LIMIT:
        raise StoreError(f"`limit` must be an int from 1 to {MAX_LIMIT}, got {limit!r}")


def _utf8_size(name: str, value: object) -> int:
    """Size in bytes of a text that can be encoded."""
    if not isinstance(value, str):
        raise StoreError(f"`{name}` must be a str, got {type(value).__name__}")
    try:
        return len(value.encode())
    except UnicodeEncodeError:
        raise StoreError(f"`{name}` must be encodable text, got a lone surrogate") from None
