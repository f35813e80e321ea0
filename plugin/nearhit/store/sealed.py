"""A store whose questions and answers lie in another one as `store.prompts` says.

The callers see them in the clear; see `sealing`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Protocol
from uuid import UUID

from nearhit.sealing import Seal, UnreadableError
from nearhit.store.base import (
    MAX_LIMIT,
    Browse,
    Entry,
    Listing,
    Neighbour,
    Page,
    Store,
    Vector,
    check_browse,
    check_entry,
)


class _Backend(Store, Protocol):
    async def start(self) -> None: ...


class SealedStore:
    """Seals on the way in, opens on the way out. Implements `Store`.

    Args:
        backend: where the entries lie.
        seal: of the installation.
        dimension: length of every vector.
    """

    def __init__(self, backend: _Backend, seal: Seal, dimension: int) -> None:
        self.backend = backend
        self._seal = seal
        self._dimension = dimension

    async def start(self) -> None:
        """Bring the store up ahead of the first call; raises what it raises."""
        await self.backend.start()

    async def get(self, entry_id: UUID, now: int) -> Entry | None:
        """See `Store.get`."""
        entry = await self.backend.get(entry_id, now)
        return None if entry is None else self._seal.open(entry)

    async def search(
        self, scope: str, fingerprint: str, vector: Vector, limit: int, now: int
    ) -> list[Neighbour]:
        """See `Store.search`."""
        found = await self.backend.search(scope, fingerprint, vector, limit, now)
        return [Neighbour(self._seal.open(one.entry), one.similarity) for one in found]

    async def put(self, entry: Entry) -> None:
        """See `Store.put`."""
        check_entry(entry, self._dimension)
        await self.backend.put(self._seal.seal(entry))

    async def touch(self, entry_id: UUID, hits: int, now: int) -> None:
        """See `Store.touch`."""
        await self.backend.touch(entry_id, hits, now)

    async def delete(self, ids: Sequence[UUID]) -> None:
        """See `Store.delete`."""
        await self.backend.delete(ids)

    async def stale(self, fingerprint: str, after: UUID | None, limit: int, now: int) -> Page:
        """See `Store.stale`."""
        page = await self.backend.stale(fingerprint, after, limit, now)
        return Page([self._seal.open(entry) for entry in page.entries], page.left)

    async def browse(self, browse: Browse) -> Listing:
        """See `Store.browse`. A text is looked for here: where questions are sealed, none else can.

        A call then looks at no more than `MAX_LIMIT` entries.
        """
        check_browse(browse, self._dimension)
        contains = browse.contains.casefold()
        if not contains or browse.vector is not None or self._seal.prompts == "full":
            found = await self.backend.browse(browse)
            return Listing([self._seal.open(entry) for entry in found.entries], found.next)
        found = await self.backend.browse(replace(browse, contains="", limit=MAX_LIMIT))
        wanted = [entry for entry in found.entries if contains in self._question(entry)]
        kept = [self._seal.open(entry) for entry in wanted[: browse.limit]]
        is_cut = len(wanted) > browse.limit
        return Listing(kept, kept[-1].id if is_cut else found.next)

    def _question(self, entry: Entry) -> str:
        try:
            return self._seal.question(entry).casefold()
        except UnreadableError:
            return ""

    async def exchange(self, signature: str, entry: Entry) -> bool:
        """See `Store.exchange`."""
        check_entry(entry, self._dimension)
        return await self.backend.exchange(signature, self._seal.seal(entry))

    async def flush(self, before: int | None = None) -> int:
        """See `Store.flush`."""
        return await self.backend.flush(before)

    async def epoch(self) -> int:
        """See `Store.epoch`."""
        return await self.backend.epoch()

    async def count(self) -> int:
        """See `Store.count`."""
        return await self.backend.count()

    async def stats(self) -> Mapping[str, int | str]:
        """See `Store.stats`."""
        return await self.backend.stats()

    async def close(self) -> None:
        """See `Store.close`."""
        await self.backend.close()
