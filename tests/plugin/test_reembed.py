"""A store moves from one encoder to another and loses nothing."""

import dataclasses
from collections.abc import AsyncIterator
from pathlib import Path
from uuid import NAMESPACE_URL, uuid5

import pytest

from doubles import Clock, FakeEncoder, InProcessStore, vector_at
from nearhit.encoder import Encoding
from nearhit.errors import EncoderBusy, EncoderError
from nearhit.reembed import PAGE, Tally, reembed
from nearhit.signing import is_authentic, sign
from nearhit.store import Entry

SECRET = b"a secret of this installation"
NOW = int(Clock().now)


class Renamed(FakeEncoder):
    """The encoder that the entries are to be moved to."""

    fingerprint = "new"

    def __init__(self, count: int) -> None:
        super().__init__({str(number): float(number % 90) for number in range(count)})


def entry_of(number: int) -> Entry:
    entry = Entry(
        id=uuid5(NAMESPACE_URL, str(number)),
        scope="tenant",
        fingerprint="old",
        text=str(number),
        completion="an answer",
        model="m",
        created_at=NOW - 10,
        expires_at=NOW + 100,
        epoch=0,
        signature="",
        hits=number,
        vector=vector_at(0),
    )
    return dataclasses.replace(entry, signature=sign(entry, SECRET))


def ignore(tally: Tally, total: int) -> None:
    """Show no progress."""


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[InProcessStore]:
    opened = InProcessStore(tmp_path / "data")
    yield opened
    await opened.close()


async def test_entries_keep_all_but_vector_fingerprint_and_signature(
    store: InProcessStore,
) -> None:
    before = [entry_of(number) for number in range(PAGE + 8)]
    for entry in before:
        await store.put(entry)
    tally = await reembed(store, Renamed(len(before)), SECRET, ignore, Clock())
    assert tally == Tally(migrated=len(before))
    for entry in before:
        after = await store.get(entry.id, NOW)
        assert after is not None
        assert is_authentic(after, SECRET)
        assert after.fingerprint == "new"
        for name in set(Entry.__slots__) - {"fingerprint", "signature", "vector"}:
            assert getattr(after, name) == getattr(entry, name), name
        found = await store.search("tenant", "new", vector_at(float(entry.text)), 1, NOW)
        assert found[0].similarity > 0.999


async def test_run_that_failed_goes_on_where_it_stopped(store: InProcessStore) -> None:
    class Dying(Renamed):
        async def encode(self, text: str, owner: str = "") -> Encoding:
            if len(self.encoded) >= PAGE:
                raise EncoderError("killed")
            return await super().encode(text)

    count = 3 * PAGE
    for number in range(count):
        await store.put(entry_of(number))
    with pytest.raises(EncoderError, match="killed"):
        await reembed(store, Dying(count), SECRET, ignore, Clock())
    second = Renamed(count)
    tally = await reembed(store, second, SECRET, ignore, Clock())
    assert tally.migrated == len(second.encoded) == count - PAGE
    assert (await store.stale("new", None, 10, NOW)).left == 0


async def test_text_that_the_new_encoder_refuses_matches_exactly_only(
    store: InProcessStore,
) -> None:
    entry = entry_of(1)
    await store.put(entry)
    encoder = Renamed(2)
    encoder.degrees["1"] = None
    assert await reembed(store, encoder, SECRET, ignore, Clock()) == Tally(exact_only=1)
    after = await store.get(entry.id, NOW)
    assert after is not None
    assert (after.fingerprint, after.vector) == ("", None)
    assert is_authentic(after, SECRET)


async def test_entry_that_nobody_of_this_installation_signed_is_never_signed(
    store: InProcessStore,
) -> None:
    forged = dataclasses.replace(entry_of(1), completion="another answer")
    await store.put(forged)
    assert await reembed(store, Renamed(2), SECRET, ignore, Clock()) == Tally(forged=1)
    after = await store.get(forged.id, NOW)
    assert after is not None
    assert (after.fingerprint, after.signature) == ("old", forged.signature)


async def test_answer_that_is_stored_meanwhile_wins(store: InProcessStore) -> None:
    newer = dataclasses.replace(entry_of(1), completion="newer", fingerprint="new")
    newer = dataclasses.replace(newer, signature=sign(newer, SECRET))

    class Overtaken(Renamed):
        async def encode(self, text: str, owner: str = "") -> Encoding:
            await store.put(newer)
            return await super().encode(text)

    await store.put(entry_of(1))
    assert await reembed(store, Overtaken(2), SECRET, ignore, Clock()) == Tally(overtaken=1)
    after = await store.get(newer.id, NOW)
    assert after is not None
    assert after.completion == "newer"


async def test_full_queue_of_the_encoder_is_waited_for(store: InProcessStore) -> None:
    class Full(Renamed):
        refused = 0

        async def encode(self, text: str, owner: str = "") -> Encoding:
            if self.refused < 3:
                self.refused += 1
                raise EncoderBusy("full")
            return await super().encode(text)

    for number in range(5):
        await store.put(entry_of(number))
    assert (await reembed(store, Full(5), SECRET, ignore, Clock())).migrated == 5


async def test_progress_counts_up_to_the_total(store: InProcessStore) -> None:
    count, shown = 2 * PAGE + 1, []
    for number in range(count):
        await store.put(entry_of(number))
    await reembed(
        store, Renamed(count), SECRET, lambda t, total: shown.append((t.seen, total)), Clock()
    )
    assert shown == [(0, count), (PAGE, count), (2 * PAGE, count), (count, count)]


async def test_store_without_stale_entries_is_left_alone(store: InProcessStore) -> None:
    assert await reembed(store, Renamed(0), SECRET, ignore, Clock()) == Tally()
