"""Which entries go when there is no room: those of the least combined recency and frequency.

Each hit counts 1 when it happens and half as much every `HALF_LIFE_S`; the sum is the entry's CRF.
Being stored counts as the first hit. Because all sums halve alike, their order never changes
between hits, so an entry carries one number that need not be aged: the time at which a single hit
would weigh as much now as all of its hits do. Without hits that is the time of storing; what is
asked often and lately seems newer than it is. It has no part in `expires_at`, which is hard.

Source: LRFU, Lee et al., "LRFU: A Spectrum of Policies that Subsumes the Least Recently Used and
Least Frequently Used Policies", IEEE Transactions on Computers 50 (12), 2001, with
F(x) = 2 ** (-x / HALF_LIFE_S).
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from uuid import UUID

import numpy as np

from nearhit.store.base import Entry

HALF_LIFE_S = 3600
"""A question asked every minute for hours stays as if last asked 6.4 hours later."""

_UNITS = 1000  # milliseconds: a hit among thousands must still move the number
_SLACK = 100  # a hundredth below the bound, so that not every write evicts


@dataclass(frozen=True, slots=True)
class Bounds:
    """How much a store may hold; None: as much as comes.

    Attributes:
        entries: Their number.
        bytes: Sum of `size_of`.
    """

    entries: int | None = None
    bytes: int | None = None

    def excess(self, entries: int, size: int) -> tuple[int, int]:
        """Return how many entries and bytes must go; (0, 0) within the bounds."""
        if not self.is_passed(entries, size):
            return 0, 0
        return _above(entries, self.entries), _above(size, self.bytes)

    def is_passed(self, entries: int, size: int) -> bool:
        """Whether there is more than may be held."""
        too_many = self.entries is not None and entries > self.entries
        return too_many or (self.bytes is not None and size > self.bytes)


class Ledger:
    """The bytes of all entries. Counted anew in the background after each start.

    Nothing durable has to be kept in step with the entries that way, whatever kills the process.
    The count goes through the entries by id; what is behind it changes the sum, what is before it
    is met later.
    """

    def __init__(self) -> None:
        self.bytes = 0
        self.counted: UUID | None = None
        self.is_whole = False

    def note(self, entry_id: UUID, change: int) -> None:
        """Note that an entry grew, came or went."""
        if self.is_whole or (self.counted is not None and entry_id <= self.counted):
            self.bytes += change

    def count(self, page: Iterable[tuple[UUID, int]]) -> None:
        """Add the next entries with their bytes, by id; an empty page is the end."""
        before = self.counted
        for entry_id, size in page:
            self.bytes += size
            self.counted = entry_id
        self.is_whole = self.counted == before


def size_of(entry: Entry) -> int:
    """Return the bytes of question, answer and vector (half precision)."""
    vector = 0 if entry.vector is None else 2 * entry.vector.size
    return len(entry.text.encode()) + len(entry.completion.encode()) + vector


def at_first(created_at: int) -> int:
    """Return the CRF, as a time in milliseconds, of an entry stored at a Unix second."""
    return created_at * _UNITS


def after_hits(crf: int, hits: int, now: int) -> int:
    """Return the CRF, as a time in milliseconds, after `hits` (1 or more) at a Unix second."""
    half_life = HALF_LIFE_S * _UNITS
    age = (crf - now * _UNITS) / half_life
    return now * _UNITS + round(half_life * float(np.logaddexp2(np.log2(hits), age)))


def victims(
    weakest: Iterable[UUID], size: Callable[[UUID], int], excess: tuple[int, int]
) -> list[UUID]:
    """Return the first of the weakest entries whose removal is enough.

    Args:
        weakest: Ids, the first to go first.
        size: Bytes of an entry.
        excess: Entries and bytes that must go.
    """
    entries, size_left = excess
    found: list[UUID] = []
    for entry_id in weakest:
        if len(found) >= entries and size_left <= 0:
            break
        found.append(entry_id)
        size_left -= size(entry_id)
    return found


def _above(held: int, bound: int | None) -> int:
    """How much is held above a bound less the slack."""
    return 0 if bound is None else max(0, held - (bound - bound // _SLACK))
