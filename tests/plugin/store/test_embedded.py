"""The embedded store's process: started once, shared, bounded, and never waited for."""

import asyncio
import json
import os
import stat
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from nearhit.errors import ConfigError, StoreBusy, StoreError
from nearhit.store import Entry
from nearhit.store.base import Vector
from nearhit.store.embedded import EmbeddedStore
from nearhit.store.folder import LOG, SOCKET, STORE

Make = Callable[..., Entry]
At = Callable[[float], Vector]
Open = Callable[..., EmbeddedStore]
ProcessOf = Callable[[EmbeddedStore], Awaitable[int]]
Gone = Callable[[int], Awaitable[None]]

CLIENT = """
import asyncio, sys
from pathlib import Path
from nearhit.store.embedded import EmbeddedStore

async def main():
    store = EmbeddedStore(Path(sys.argv[1]), 8, idle_exit_s=1)
    await store.start()
    print((await store.stats())["pid"], flush=True)
    await asyncio.to_thread(sys.stdin.read)
    await store.close()

if sys.argv[2] == "uvloop":
    import uvloop
    uvloop.run(main())
else:
    asyncio.run(main())
"""


def client(data_dir: Path, loop: str = "asyncio") -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [sys.executable, "-W", "error", "-c", CLIENT, str(data_dir), loop],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


def processes_on(data_dir: Path) -> list[int]:
    """Pids of the store processes of a folder."""
    found = []
    for cmdline in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            words = cmdline.read_bytes().split(b"\0")
        except OSError:
            continue
        if b"nearhit.store.daemon" in words and os.fsencode(data_dir) in words:
            found.append(int(cmdline.parent.name))
    return found


def modes_below(folder: Path) -> dict[Path, int]:
    """Permissions of a folder and of all that is in it."""
    paths = [folder, *folder.rglob("*")]
    return {path: stat.S_IMODE(path.stat().st_mode) for path in paths}


def make_open_to_all(folder: Path) -> None:
    folder.mkdir()
    folder.chmod(0o755)


@pytest.fixture
def obstacle(data_dir: Path) -> Path:
    """A file where the data folder must be."""
    data_dir.write_text("in the way")
    return data_dir


async def test_start_of_several_workers_at_once_makes_one_process(data_dir: Path) -> None:
    workers = [client(data_dir, loop) for loop in ("asyncio", "uvloop", "asyncio")]
    pids = {await asyncio.to_thread(worker.stdout.readline) for worker in workers if worker.stdout}
    assert len(pids) == 1
    # Those that lost the race leave by themselves; ends by the test's timeout.
    while processes_on(data_dir) != [int(next(iter(pids)))]:  # noqa: ASYNC110 - other processes
        await asyncio.sleep(0.02)
    for worker in workers:
        await asyncio.to_thread(worker.communicate)
    assert [worker.returncode for worker in workers] == [0, 0, 0]


async def test_flush_by_one_worker_is_seen_by_the_next_call_of_another(
    open_store: Open, make_entry: Make, now: int
) -> None:
    one, other = open_store(), open_store()
    entry = make_entry()
    await one.put(entry)
    assert await other.get(entry.id, now) is not None
    await one.flush()
    assert await other.get(entry.id, now) is None
    assert await other.epoch() == 1


async def test_folder_with_a_long_path_works(tmp_path: Path, open_store: Open) -> None:
    store = open_store(tmp_path / ("long-" * 20) / ("path-" * 20))
    assert await store.count() == 0


def test_folder_with_a_long_path_where_proc_is_missing_names_the_setting(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "platform", "darwin")
    with pytest.raises(ConfigError, match=r"`store\.path` must be at most"):
        EmbeddedStore(tmp_path / ("long-" * 20), 8)


async def test_folder_and_socket_are_closed_to_other_users(
    data_dir: Path, open_store: Open, make_entry: Make
) -> None:
    make_open_to_all(data_dir)
    before = os.umask(0)
    try:
        await open_store().put(make_entry())
    finally:
        os.umask(before)
    modes = modes_below(data_dir)
    assert modes[data_dir] == 0o700
    assert modes[data_dir / SOCKET] == 0o600
    assert len(modes) > 10
    assert not any(mode & 0o077 for mode in modes.values())


async def test_log_shows_nothing_of_what_is_stored(
    data_dir: Path, open_store: Open, make_entry: Make
) -> None:
    store = open_store()
    await store.put(make_entry("my secret", completion="a secret", signature="secret"))
    await store.flush()
    assert "serving" in (data_dir / LOG).read_text()
    assert "secret" not in (data_dir / LOG).read_text()


async def test_process_without_workers_leaves_and_the_next_finds_everything(
    data_dir: Path,
    open_store: Open,
    process_of: ProcessOf,
    gone: Gone,
    make_entry: Make,
    now: int,
) -> None:
    store = open_store(idle_exit_s=0.3)
    entry = make_entry()
    await store.put(entry)
    pid = await process_of(store)
    await store.close()
    await gone(pid)
    assert not (data_dir / SOCKET).exists()
    assert json.loads((data_dir / STORE / "meta.json").read_text())["floor"] == 1
    assert await open_store().get(entry.id, now) is not None


async def test_process_with_an_idle_worker_stays(open_store: Open, process_of: ProcessOf) -> None:
    store = open_store(idle_exit_s=0.2)
    pid = await process_of(store)
    await asyncio.sleep(0.6)
    assert await process_of(store) == pid


async def test_call_while_the_process_cannot_start_fails_at_once(
    obstacle: Path, open_store: Open
) -> None:
    store = open_store()
    with pytest.raises(StoreError, match=r"must start: `store\.path` must be a folder"):
        await store.start()
    with pytest.raises(StoreError, match="next try is in"):
        await store.count()


async def test_call_after_failed_starts_waits_longer_and_then_tries_again(
    obstacle: Path, open_store: Open
) -> None:
    store = open_store()
    for _ in range(3):
        with pytest.raises(StoreError, match="must start"):
            await until_tried(store)
    await asyncio.to_thread(obstacle.unlink)
    assert await until_tried(store) == 0


async def until_tried(store: EmbeddedStore) -> int:
    """Call until the store no longer backs off."""
    while True:
        try:
            return await store.count()
        except StoreError as error:
            if "next try is in" not in str(error):
                raise
        await asyncio.sleep(0.02)


async def test_calls_in_flight_when_the_process_dies_fail_and_the_next_start_serves(
    open_store: Open,
    process_of: ProcessOf,
    suspend: Callable[[int], None],
    make_entry: Make,
    now: int,
) -> None:
    store = open_store()
    entry = make_entry()
    await store.put(entry)
    pid = await process_of(store)
    suspend(pid)
    calls = [asyncio.create_task(store.get(entry.id, now)) for _ in range(5)]
    await asyncio.sleep(0.05)
    os.kill(pid, 9)
    for call in calls:
        with pytest.raises(StoreError, match="died during the call"):
            await call
    with pytest.raises(StoreError, match="next try is in"):
        await store.get(entry.id, now)
    assert await process_of(store) != pid
    assert await store.get(entry.id, now) is not None


async def test_call_above_the_bound_is_busy_at_once_also_after_others_gave_up(
    open_store: Open, process_of: ProcessOf, suspend: Callable[[int], None]
) -> None:
    store = open_store(max_pending=2)
    pid = await process_of(store)
    suspend(pid)
    for _ in range(2):
        with pytest.raises(TimeoutError, match=r"^$"):
            async with asyncio.timeout(0.02):
                await store.count()
    with pytest.raises(StoreBusy, match="fewer than 2 calls"):
        await store.count()
    os.kill(pid, 18)
    while True:
        try:
            assert await store.count() == 0
            return
        except StoreBusy:
            await asyncio.sleep(0.01)


async def test_call_cancelled_by_its_deadline_leaves_the_connection_usable(
    open_store: Open,
    process_of: ProcessOf,
    suspend: Callable[[int], None],
    make_entry: Make,
    at: At,
    now: int,
) -> None:
    store = open_store()
    pid = await process_of(store)
    entry = make_entry()
    suspend(pid)
    with pytest.raises(TimeoutError, match=r"^$"):
        async with asyncio.timeout(0.05):
            await store.put(entry)
    waiting = asyncio.create_task(store.search("tenant", "encoder", at(0), 5, now))
    os.kill(pid, 18)
    assert [neighbour.entry.id for neighbour in await waiting] == [entry.id]
    assert await process_of(store) == pid


async def test_start_cancelled_by_one_caller_still_serves_the_others(open_store: Open) -> None:
    store = open_store()
    hasty = asyncio.create_task(store.count())
    patient = asyncio.create_task(store.count())
    await asyncio.sleep(0)
    hasty.cancel()
    assert await patient == 0
    assert hasty.cancelled()


async def test_call_that_waits_for_a_hung_process_to_greet_ends_by_its_own_deadline(
    open_store: Open, process_of: ProcessOf, suspend: Callable[[int], None]
) -> None:
    pid = await process_of(open_store())
    suspend(pid)
    late = open_store()
    with pytest.raises(TimeoutError, match=r"^$"):
        async with asyncio.timeout(0.05):
            await late.count()
    os.kill(pid, 18)
    assert await late.count() == 0


async def test_hung_process_that_never_greets_is_an_error_after_the_start_timeout(
    open_store: Open, process_of: ProcessOf, suspend: Callable[[int], None]
) -> None:
    suspend(await process_of(open_store()))
    with pytest.raises(StoreError, match=r"must answer within 0\.1 s"):
        await open_store(start_timeout_s=0.1).count()


async def test_many_calls_at_once_each_get_their_own_answer(
    open_store: Open, make_entry: Make, now: int
) -> None:
    store = open_store(max_pending=300)
    entries = [make_entry(str(number)) for number in range(200)]
    await asyncio.gather(*(store.put(entry) for entry in entries))
    found = await asyncio.gather(*(store.get(entry.id, now) for entry in entries))
    assert [entry and entry.text for entry in found] == [entry.text for entry in entries]


async def test_search_whose_answer_exceeds_a_frame_leaves_out_the_least_similar(
    open_store: Open, make_entry: Make, at: At, now: int
) -> None:
    store = open_store()
    for degrees in range(10):
        completion = str(degrees) * (2**22)
        await store.put(make_entry(str(degrees), degrees=degrees * 5, completion=completion))
    found = await store.search("tenant", "encoder", at(0), 10, now)
    texts = [neighbour.entry.text for neighbour in found]
    assert 0 < len(texts) < 10
    assert texts == [str(degrees) for degrees in range(len(texts))]


async def test_expired_and_flushed_entries_are_swept(open_store: Open, make_entry: Make) -> None:
    store = open_store()
    for number in range(300):
        await store.put(make_entry(str(number)))
    await store.flush()
    await store.put(make_entry("expired", epoch=1, expires_at=int(time.time()) - 1))
    await store.put(make_entry("live", epoch=1))
    while await store.count() != 1:  # noqa: ASYNC110 - another process does it
        await asyncio.sleep(0.05)
    stats = await store.stats()
    assert (stats["expired"], stats["flushed"]) == (1, 300)


async def test_worker_of_another_encoder_beside_a_busy_one_is_told_what_to_do(
    open_store: Open,
) -> None:
    await open_store().start()
    with pytest.raises(StoreError, match=r"version and encoder.*set another `store\.path`"):
        await open_store(dimension=4).start()


async def test_worker_of_another_encoder_alone_replaces_process_and_store(
    data_dir: Path, open_store: Open, process_of: ProcessOf, make_entry: Make
) -> None:
    before = open_store(idle_exit_s=60)
    await before.put(make_entry())
    await before.flush()
    pid = await process_of(before)
    await before.close()
    after = open_store(dimension=4)
    assert await process_of(after) != pid
    assert await after.count() == 0
    assert await after.epoch() == 1
    assert (data_dir / "store.dimension-8.bak").is_dir()


async def test_connection_that_speaks_nonsense_harms_nobody(
    data_dir: Path, open_store: Open, process_of: ProcessOf
) -> None:
    store = open_store()
    pid = await process_of(store)
    for nonsense in (b"", b"GET / HTTP/1.1\r\n\r\n", b"\0" * 12, b"\0\0\0\1\0\0\0\0\0\0\0\0["):
        reader, writer = await asyncio.open_unix_connection(str(data_dir / SOCKET))
        writer.write(nonsense)
        writer.write_eof()
        assert await reader.read() == b""
        writer.close()
    assert await process_of(store) == pid


async def test_request_that_makes_no_sense_is_answered_with_an_error(open_store: Open) -> None:
    store = open_store()
    requests: list[dict[str, Any]] = [{"op": "dance"}, {}, {"op": "get", "entry": 7, "now": 0}]
    for request in requests:
        with pytest.raises(StoreError, match=r"must be one|malformed"):
            await store._call(request)
    assert await store.count() == 0


async def test_closed_store_refuses_calls(open_store: Open) -> None:
    store = open_store()
    await store.start()
    await store.close()
    await store.close()
    with pytest.raises(StoreError, match="is closed"):
        await store.count()


def test_imports_keep_the_engine_out_of_the_proxy_and_the_proxy_out_of_the_process() -> None:
    script = """
import sys
import nearhit.store, nearhit.store.embedded
assert "qdrant_edge" not in sys.modules
import nearhit.store.daemon
assert not {"litellm", "torch", "onnxruntime", "pydantic"} & set(sys.modules)
"""
    subprocess.run([sys.executable, "-c", script], check=True)


async def test_process_that_hangs_for_good_is_killed_and_another_one_answers(
    open_store: Open,
    process_of: ProcessOf,
    suspend: Callable[[int], None],
    gone: Callable[[int], Awaitable[None]],
    make_entry: Make,
    now: int,
) -> None:
    store = open_store(hung_s=0.2)
    entry = make_entry()
    await store.put(entry)
    pid = await process_of(store)
    suspend(pid)
    asked = time.monotonic()
    while True:
        try:
            async with asyncio.timeout(0.1):
                found = await store.get(entry.id, now)
                break
        except (StoreError, TimeoutError):
            assert time.monotonic() < asked + 60, "it was not killed"
            await asyncio.sleep(0.05)
    assert found is not None
    await gone(pid)
