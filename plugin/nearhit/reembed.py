"""Give the entries of another encoder a vector of this one, in place.

A new adapter would otherwise mean a cold cache: vectors of two encoders are never compared. The
proxy may serve meanwhile, and whatever it stores, deletes or flushes wins. Nothing is noted on
the way: an entry that is done carries the new fingerprint, so a run that was killed goes on
where it stopped.
"""

import asyncio
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Final
from uuid import UUID

from nearhit.encoder import Encoder, Encoding, Unencodable
from nearhit.errors import EncoderBusy
from nearhit.signing import is_authentic, sign
from nearhit.store import Entry, Store

# Entries read at once, and the texts that wait for the encoder together: enough for batches of
# like length, little enough for memory (answers may be a megabyte each).
PAGE: Final = 32
_RETRY_S: Final = 0.005


@dataclass(slots=True)
class Tally:
    """What became of the entries.

    Attributes:
        migrated: have a vector of the new encoder.
        exact_only: have none by the new encoder, and are found by their exact text only.
        overtaken: were stored anew, deleted or flushed meanwhile.
        forged: carry no signature of this installation; left as they are, never signed.
    """

    migrated: int = 0
    exact_only: int = 0
    overtaken: int = 0
    forged: int = 0

    @property
    def seen(self) -> int:
        """How many entries were dealt with."""
        return self.migrated + self.exact_only + self.overtaken + self.forged


async def reembed(
    store: Store,
    encoder: Encoder,
    secret: bytes,
    progress: Callable[[Tally, int], None],
    now: Callable[[], float] = time.time,
) -> Tally:
    """Migrate all live entries that another encoder made.

    Id, scope, question, answer, times, epoch and hit count stay; vector, fingerprint and
    signature are new. Entries without a vector are left as they are.

    Args:
        store: where the entries are.
        encoder: the one they are to be found with.
        secret: the installation's, see `signing.read_secret`.
        progress: called after each page with the tally and how many entries there are in all.
        now: Unix seconds.

    Raises:
        StoreError: the store fails; what was done stays done.
        EncoderError: the encoder fails; likewise.
    """
    tally = Tally()
    after: UUID | None = None
    total = 0
    while True:
        page = await store.stale(encoder.fingerprint, after, PAGE, int(now()))
        total = max(total, page.left, tally.seen)
        progress(tally, total)
        if not page.entries:
            return tally
        authentic = [entry for entry in page.entries if is_authentic(entry, secret)]
        tally.forged += len(page.entries) - len(authentic)
        await _migrate(store, encoder, secret, authentic, tally)
        after = page.entries[-1].id


async def _migrate(
    store: Store, encoder: Encoder, secret: bytes, entries: Sequence[Entry], tally: Tally
) -> None:
    """Encode the questions of a page together, then exchange its entries one by one."""
    encodings = await asyncio.gather(*(encode_in_turn(encoder, entry.text) for entry in entries))
    for entry, encoded in zip(entries, encodings, strict=True):
        if isinstance(encoded, Unencodable):
            new = replace(entry, vector=None, fingerprint="")
        else:
            new = replace(entry, vector=encoded, fingerprint=encoder.fingerprint)
        new = replace(new, signature=sign(new, secret))
        if not await store.exchange(entry.signature, new):
            tally.overtaken += 1
        elif new.vector is None:
            tally.exact_only += 1
        else:
            tally.migrated += 1


async def encode_in_turn(encoder: Encoder, text: str) -> Encoding:
    """Encode one text; where too many wait, wait for a place."""
    while True:
        try:
            return await encoder.encode(text)
        except EncoderBusy:
            await asyncio.sleep(_RETRY_S)
