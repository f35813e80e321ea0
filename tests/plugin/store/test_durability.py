"""What survives: kill -9 of anyone, stale files, other versions, damage."""

import asyncio
import json
import os
import random
import signal
import subprocess
import sys
from collections.abc import Awaitable, Callable, Iterable
from pathlib import Path
from uuid import NAMESPACE_URL, UUID, uuid5

import numpy as np
import pytest

from nearhit.errors import StoreError
from nearhit.store import Entry
from nearhit.store.embedded import EmbeddedStore
from nearhit.store.engine import Engine
from nearhit.store.folder import MAX_OPENINGS, SOCKET, STORE

Make = Callable[..., Entry]
Open = Callable[..., EmbeddedStore]
ProcessOf = Callable[[EmbeddedStore], Awaitable[int]]
Gone = Callable[[int], Awaitable[None]]

WRITER = """
import asyncio, itertools, sys
from pathlib import Path
from uuid import NAMESPACE_URL, uuid5
from nearhit.store import Entry
from nearhit.store.embedded import EmbeddedStore

async def main():
    store = EmbeddedStore(Path(sys.argv[1]), 8, idle_exit_s=1)
    for number in itertools.count():
        text = f"{sys.argv[2]} {number}"
        await store.put(Entry(uuid5(NAMESPACE_URL, text), "tenant", "", text, "{}" * 5000, "m",
                              1, 4_100_000_000, 0, ""))
        print(text, flush=True)

asyncio.run(main())
"""


async def test_acknowledged_writes_survive_kill_9_of_the_process_round_after_round(
    open_store: Open, process_of: ProcessOf, make_entry: Make, now: int
) -> None:
    stored: dict[UUID, Entry] = {}
    deleted: set[UUID] = set()
    rng = random.Random(7)

    async def write(store: EmbeddedStore, name: str) -> None:
        """Put, and delete a part again, until the process dies under us."""
        for number in range(1_000_000):
            entry = make_entry(f"{name} {number}", degrees=number % 90, completion="x" * 2000)
            try:
                await store.put(entry)
                if number % 7:
                    stored[entry.id] = entry
                else:
                    await store.delete([entry.id])
                    deleted.add(entry.id)
            except StoreError:
                return

    for round_ in range(4):
        stores = [open_store(), open_store()]
        pid = await process_of(stores[0])
        await stores[1].start()
        writers = [
            asyncio.create_task(write(store, f"{round_} {index} {copy}"))
            for index, store in enumerate(stores)
            for copy in range(2)
        ]
        await asyncio.sleep(rng.uniform(0.3, 0.9))  # the first upkeep, and its save, is at 0.25
        os.kill(pid, signal.SIGKILL)
        await asyncio.gather(*writers)
        after = open_store()
        assert (await after.stats())["moved_aside"] == ""
        found = await get_all(after, stored, now)
        assert [entry.id for entry in found if entry] == list(stored)
        for entry in found:
            assert entry is not None
            original = stored[entry.id]
            assert (entry.text, entry.completion) == (original.text, original.completion)
            assert original.vector is not None
            assert entry.vector is not None
            assert np.allclose(entry.vector, original.vector, atol=1e-3)
        back = await get_all(after, deleted, now)
        assert not any(back)
    assert len(stored) > 500


async def get_all(store: EmbeddedStore, ids: Iterable[UUID], now: int) -> list[Entry | None]:
    """Get many, within the store's bound on calls in flight."""
    wanted, found = list(ids), []
    for start in range(0, len(wanted), 100):
        calls = [store.get(entry_id, now) for entry_id in wanted[start : start + 100]]
        found += await asyncio.gather(*calls)
    return found


def start_writer(data_dir: Path) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [sys.executable, "-c", WRITER, str(data_dir), "doomed"], stdout=subprocess.PIPE, text=True
    )


async def test_kill_9_of_a_worker_that_writes_loses_nothing_and_harms_no_other(
    data_dir: Path, open_store: Open, process_of: ProcessOf, make_entry: Make, now: int
) -> None:
    store = open_store()
    pid = await process_of(store)
    writer = start_writer(data_dir)
    assert writer.stdout is not None
    acknowledged = [await asyncio.to_thread(writer.stdout.readline) for _ in range(100)]
    await store.put(make_entry("meanwhile"))
    writer.kill()
    acknowledged += await asyncio.to_thread(writer.stdout.readlines)
    writer.wait()
    writer.stdout.close()
    whole = [line.strip() for line in acknowledged if line.endswith("\n")]
    for text in whole:
        entry = await store.get(uuid5(NAMESPACE_URL, text), now)
        assert entry is not None
        assert entry.completion == "{}" * 5000
    assert await store.get(make_entry("meanwhile").id, now) is not None
    assert await process_of(store) == pid


async def test_flush_survives_kill_9_and_wins_over_a_put_from_before(
    open_store: Open, process_of: ProcessOf, make_entry: Make, now: int
) -> None:
    store = open_store()
    await store.put(make_entry("before"))
    assert await store.flush() == 1
    os.kill(await process_of(store), signal.SIGKILL)
    await process_of(store)
    assert await store.epoch() == 1
    assert await store.get(make_entry("before").id, now) is None
    late = make_entry("asked before the flush, answered after it", epoch=0)
    await store.put(late)
    assert await store.get(late.id, now) is None
    assert (await store.stats())["stale_puts"] == 1


async def test_socket_of_a_killed_process_does_not_matter(
    data_dir: Path, open_store: Open, process_of: ProcessOf, gone: Gone, make_entry: Make, now: int
) -> None:
    first = open_store()
    await first.put(make_entry())
    pid = await process_of(first)
    os.kill(pid, signal.SIGKILL)
    await gone(pid)
    assert (data_dir / SOCKET).exists()
    assert await open_store().get(make_entry().id, now) is not None


async def leave(store: EmbeddedStore, process_of: ProcessOf, gone: Gone) -> None:
    """Close the store and end its process as an operator would."""
    pid = await process_of(store)
    await store.close()
    os.kill(pid, signal.SIGTERM)
    await gone(pid)


async def test_process_told_to_end_saves_first(
    data_dir: Path, open_store: Open, process_of: ProcessOf, gone: Gone, make_entry: Make
) -> None:
    store = open_store(idle_exit_s=60)
    for number in range(10):
        await store.put(make_entry(str(number)))
    await leave(store, process_of, gone)
    assert json.loads((data_dir / STORE / "meta.json").read_text())["floor"] == 10
    assert not (data_dir / SOCKET).exists()
    assert await open_store().count() == 10


def test_store_that_another_owner_holds_is_refused_and_stays_where_it_is(tmp_path: Path) -> None:
    engine = Engine.open(tmp_path, 8)
    with pytest.raises(StoreError, match="failed to load"):
        Engine.open(tmp_path, 8)
    assert list(tmp_path.iterdir()) == [tmp_path / STORE]
    engine.close()


def other_schema(store: Path) -> None:
    meta = json.loads((store / "meta.json").read_text())
    (store / "meta.json").write_text(json.dumps(meta | {"schema": 99, "news": [1]}))


def no_meta(store: Path) -> None:
    (store / "meta.json").write_text("{")


def cut_id_mapping(store: Path) -> None:
    for path in store.glob("shard/segments/*/mutable_id_tracker.mappings"):
        os.truncate(path, 10)


def garbled_segment(store: Path) -> None:
    for path in store.glob("shard/segments/*/segment.json"):
        path.write_bytes(b"\xff" * 40)


def no_shard(store: Path) -> None:
    (store / "shard").rename(store / "elsewhere")


def openings_that_kill(store: Path) -> None:
    (store / "opening").write_text(str(MAX_OPENINGS))


@pytest.mark.parametrize(
    ("damage", "kind", "epoch"),
    [
        (other_schema, "schema-99", 1),
        (no_meta, "damaged", 0),
        (cut_id_mapping, "damaged", 1),
        (garbled_segment, "damaged", 1),
        (no_shard, "damaged", 1),
        (openings_that_kill, "damaged", 1),
    ],
)
async def test_store_that_cannot_be_used_is_moved_aside_and_an_empty_one_serves(
    data_dir: Path,
    open_store: Open,
    process_of: ProcessOf,
    gone: Gone,
    make_entry: Make,
    now: int,
    damage: Callable[[Path], None],
    kind: str,
    epoch: int,
) -> None:
    store = open_store()
    await store.flush()
    for number in range(50):
        await store.put(make_entry(str(number), epoch=1))
    await leave(store, process_of, gone)
    (data_dir / f"store.{kind}.bak").mkdir()  # an earlier one makes room
    damage(data_dir / STORE)

    store = open_store()
    assert await store.count() == 0
    assert await store.epoch() == epoch
    assert str((await store.stats())["moved_aside"]).startswith(kind)
    assert (data_dir / f"store.{kind}.bak" / "meta.json").exists()
    entry = make_entry("new", epoch=epoch)
    await store.put(entry)
    await leave(store, process_of, gone)
    assert await open_store().get(entry.id, now) is not None
