"""From the embedded store into a server's collection: whole, once, and only what fits."""

import asyncio
import dataclasses
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any
from uuid import UUID

import numpy as np
import pytest

from nearhit.cli import main
from nearhit.errors import StoreError
from nearhit.migrate import PAGE, Tally, migrate
from nearhit.sealing import Prompts, Seal, is_of
from nearhit.signing import is_authentic, read_secret, sign
from nearhit.store import Entry
from nearhit.store.embedded import EmbeddedStore
from nearhit.store.server import ServerStore

Make = Callable[..., Entry]
SECRET = b"0123456789abcdef0123456789abcdef"
COUNT = 2 * PAGE + 3


def signed(entry: Entry, secret: bytes = SECRET) -> Entry:
    return dataclasses.replace(entry, signature=sign(entry, secret))


def quiet(tally: Tally, total: int) -> None:
    """Show nothing."""


@pytest.fixture
async def source(open_store: Any, make_entry: Make) -> EmbeddedStore:
    """Entries with vectors and one without; one has expired, one is forged, all are of epoch 1."""
    store: EmbeddedStore = open_store()
    await store.flush()
    for number in range(COUNT - 1):
        await store.put(signed(make_entry(str(number), degrees=number, hits=number, epoch=1)))
    await store.put(signed(make_entry("exact", degrees=None, epoch=1)))
    await store.put(signed(make_entry("dead", expires_at=int(time.time()) - 1, epoch=1)))
    await store.put(make_entry("forged", epoch=1))
    return store


async def test_every_live_entry_arrives_as_it_was(
    source: EmbeddedStore, standin: Any, open_server: Any, make_entry: Make, now: int
) -> None:
    target: ServerStore = open_server(standin.url, epoch=1)
    await target.start()
    seen: list[tuple[int, int]] = []
    tally = await migrate(
        source, target, SECRET, lambda tally, total: seen.append((tally.seen, total)), lambda: now
    )
    assert tally == Tally(copied=COUNT, forged=1)
    assert seen[-1] == (COUNT + 1, COUNT + 1)
    assert await target.count() == COUNT
    for number in (0, 5, COUNT - 2):
        entry = signed(make_entry(str(number), degrees=number, hits=number, epoch=1))
        found = await target.get(entry.id, now)
        assert found is not None
        assert is_authentic(found, SECRET)
        assert (found.hits, found.expires_at) == (number, entry.expires_at)
        assert found.vector is not None
        assert entry.vector is not None
        assert np.allclose(found.vector, entry.vector, atol=1e-3)
    exact = await target.get(make_entry("exact", degrees=None).id, now)
    assert exact is not None
    assert exact.vector is None


@pytest.mark.parametrize("prompts", ["encrypted", "hashed"])
async def test_what_lies_open_or_sealed_arrives_as_the_settings_say(
    open_store: Any, standin: Any, open_server: Any, make_entry: Make, now: int, prompts: Prompts
) -> None:
    source, seal = open_store(), Seal("encrypted", SECRET)
    plain, sealed = signed(make_entry("plain words")), signed(make_entry("sealed words"))
    await source.put(plain)
    await source.put(seal.seal(sealed))
    target: ServerStore = open_server(standin.url)
    await target.start()
    for tally in (Tally(copied=2), Tally(present=2)):
        assert await migrate(source, target, SECRET, quiet, lambda: now, prompts) == tally
    for entry in (plain, sealed):
        there = await target.get(Seal(prompts, SECRET).conform(entry).id, now)
        assert there is not None
        assert "words" not in there.text
        assert there.completion != entry.completion
        opened = seal.open(there)
        assert is_authentic(opened, SECRET)
        assert opened.completion == entry.completion
        assert is_of(opened.text, entry.text, SECRET)
        assert (there.vector is None) == (prompts == "hashed")


async def test_run_that_was_ended_goes_on_and_what_a_proxy_stored_wins(
    source: EmbeddedStore, standin: Any, open_server: Any, make_entry: Make, now: int
) -> None:
    target: ServerStore = open_server(standin.url, epoch=1)
    await target.start()
    newer = signed(make_entry("7", degrees=7, epoch=1, completion='{"answer": "newer"}'))
    await target.put(newer)

    class EndedError(Exception):
        pass

    def end(tally: Tally, total: int) -> None:
        if tally.seen:
            raise EndedError

    with pytest.raises(EndedError):
        await migrate(source, target, SECRET, end, lambda: now)
    before = await target.count()
    assert 1 < before < COUNT
    tally = await migrate(source, target, SECRET, quiet, lambda: now)
    assert tally.copied == COUNT - before
    assert tally.present == before
    assert await migrate(source, target, SECRET, quiet, lambda: now) == Tally(
        present=COUNT, forged=1
    )
    found = await target.get(newer.id, now)
    assert found is not None
    assert found.completion == newer.completion


async def test_collection_in_another_epoch_is_refused(
    source: EmbeddedStore, standin: Any, open_server: Any
) -> None:
    target: ServerStore = open_server(standin.url)
    await target.start()
    with pytest.raises(StoreError, match="epoch of the embedded store, 1, it is in 0"):
        await migrate(source, target, SECRET, quiet)
    assert await target.count() == 0


async def test_server_that_is_flushed_meanwhile_ends_the_run(
    source: EmbeddedStore, standin: Any, open_server: Any, now: int
) -> None:
    target: ServerStore = open_server(standin.url, epoch=1)
    other: ServerStore = open_server(standin.url)
    await target.start()
    await other.start()
    await other.flush()
    with pytest.raises(StoreError, match=r"flushed"):
        await migrate(source, target, SECRET, quiet, lambda: now)


async def test_what_a_flush_by_age_has_forgotten_does_not_arrive(
    source: EmbeddedStore, standin: Any, open_server: Any, make_entry: Make, now: int
) -> None:
    target: ServerStore = open_server(standin.url, epoch=1)
    await target.start()
    for name, age_s in (("older", 100), ("oldest", 200)):
        await source.put(signed(make_entry(name, created_at=now - age_s, epoch=1)))
    await source.flush(now - 150)
    await target.flush(now - 50)
    tally = await migrate(source, target, SECRET, quiet, lambda: now)
    assert tally == Tally(copied=COUNT, forged=1, flushed=1)
    assert await target.count() == COUNT


def test_command_copies_counts_and_says_what_is_next(
    tmp_path: Path,
    standin: Any,
    new_collection: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("NEARHIT_DATA_DIR", str(tmp_path / "data"))
    command = ["migrate", "--to", standin.url, "--collection", new_collection]
    assert main(command) == 1
    assert "data_dir must hold an embedded store" in capsys.readouterr().err

    secret = read_secret(None, tmp_path / "data")
    vector = np.zeros(384, np.float32)
    vector[0] = 1.0
    now = int(time.time())
    entry = Entry(
        id=UUID(int=7),
        scope="tenant",
        fingerprint="encoder",
        text="q",
        completion="{}",
        model="m",
        created_at=now,
        expires_at=now + 600,
        epoch=0,
        signature="",
        vector=vector,
    )

    async def fill() -> None:
        store = EmbeddedStore(tmp_path / "data", dimension=384, idle_exit_s=1.0)
        await store.put(signed(entry, secret))
        await store.close()

    asyncio.run(fill())
    assert main(command) == 0
    assert "1 entries copied, 0 were there" in capsys.readouterr().out
    assert main(command) == 0
    assert "0 entries copied, 1 were there" in capsys.readouterr().out
    assert main(["migrate", "--to", "ftp://x"]) == 1
    assert "store.url must be" in capsys.readouterr().err
