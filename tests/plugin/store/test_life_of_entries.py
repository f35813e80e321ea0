"""How long entries stay, on every backend: bounds, time, flushes, and what restarts leave."""

import asyncio
import contextlib
import os
import signal
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Protocol

import numpy as np
import pytest
from prometheus_client import REGISTRY

from doubles import InProcessStore
from nearhit.errors import StoreError
from nearhit.metrics import count_held
from nearhit.store import Entry, Store
from nearhit.store.base import Vector
from nearhit.store.embedded import EmbeddedStore
from nearhit.store.eviction import HALF_LIFE_S, Bounds, after_hits, at_first, size_of
from nearhit.store.server import ServerStore

Make = Callable[..., Entry]
At = Callable[[float], Vector]
ProcessOf = Callable[[EmbeddedStore], Awaitable[int]]


class Bounded(Protocol):
    async def __call__(self, bounds: Bounds | None = None) -> Store: ...


# The bounds of a server are its operator's; what is flushed there stays flushed as elsewhere.
ON_ALL = pytest.mark.parametrize("bounded", ["engine", "embedded", "standin"], indirect=True)


@pytest.fixture(params=["engine", "embedded"])
async def bounded(
    request: pytest.FixtureRequest,
    data_dir: Path,
    open_store: Callable[..., EmbeddedStore],
    open_server: Callable[..., ServerStore],
) -> AsyncIterator[Bounded]:
    """Open the one store of a folder or collection with bounds; again: after a restart."""
    opened: list[Store] = []
    url = request.getfixturevalue("standin").url if request.param == "standin" else ""

    async def open_(bounds: Bounds | None = None) -> Store:
        if opened:
            await _restart(opened[-1])
        store: Store
        if request.param == "engine":
            store = InProcessStore(data_dir, bounds)
        elif request.param == "standin":
            store = server = open_server(url)
            await server.start()
        else:
            store = open_store(bounds=bounds)
        opened.append(store)
        return store

    yield open_
    if isinstance(opened[-1], InProcessStore):
        await opened[-1].close()


async def _restart(store: Store) -> None:
    """End the store; the process of one that has a process is killed."""
    if isinstance(store, EmbeddedStore):
        os.kill(int((await store.stats())["pid"]), signal.SIGKILL)
    await store.close()


async def number_of(store: Store, name: str) -> int:
    return int((await store.stats())[name])


async def until(store: Store, name: str, is_reached: Callable[[int], bool]) -> None:
    """Wait for the background; ends by the test's timeout."""
    while not is_reached(await number_of(store, name)):  # noqa: ASYNC110 - another process
        await asyncio.sleep(0.02)


async def held(store: Store, entries: list[Entry], now: int) -> list[str]:
    found = [await store.get(entry.id, now) for entry in entries]
    return [entry.text for entry in found if entry is not None]


async def test_entries_above_the_bound_push_out_those_stored_longest_ago(
    bounded: Bounded, make_entry: Make, now: int
) -> None:
    store = await bounded(Bounds(20))
    entries = [make_entry(str(number), created_at=now - 100 + number) for number in range(50)]
    for entry in entries:
        await store.put(entry)
    await until(store, "points", lambda points: points <= 20)
    left = await held(store, entries, now)
    assert left == [entry.text for entry in entries[-len(left) :]]
    assert len(left) == 20
    assert await number_of(store, "evicted") == 30


async def test_entries_above_the_bound_on_bytes_are_evicted_until_they_fit(
    bounded: Bounded, make_entry: Make, now: int
) -> None:
    store = await bounded(Bounds(bytes=20_000))
    entries = [
        make_entry(str(number), created_at=now - 100 + number, completion="ü" * 500)
        for number in range(50)
    ]
    for entry in entries:
        await store.put(entry)
    await until(store, "bytes", lambda size: 0 < size <= 20_000)
    left = await held(store, entries, now)
    assert left == [entry.text for entry in entries[-len(left) :]]
    assert await number_of(store, "bytes") == sum(map(size_of, entries[-len(left) :]))
    assert 15 <= len(left) <= 19


async def test_entry_that_is_asked_for_outlives_newer_ones_that_are_not(
    bounded: Bounded, make_entry: Make, now: int
) -> None:
    store = await bounded(Bounds(10))
    popular = make_entry("popular", created_at=now - 1000)
    await store.put(popular)
    await store.touch(popular.id, 20, now - 500)
    for number in range(60):
        await store.put(make_entry(str(number), created_at=now - 400 + number))
    await until(store, "points", lambda points: points <= 10)
    assert await store.get(popular.id, now) is not None
    assert await number_of(store, "evicted") == 51


async def test_popularity_of_long_ago_does_not_keep_an_entry(
    bounded: Bounded, make_entry: Make, now: int
) -> None:
    store = await bounded(Bounds(10))
    old = make_entry("once popular", created_at=now - 20 * HALF_LIFE_S)
    await store.put(old)
    await store.touch(old.id, 1000, now - 19 * HALF_LIFE_S)
    for number in range(30):
        await store.put(make_entry(str(number), created_at=now - 100 + number))
    await until(store, "points", lambda points: points <= 10)
    assert await store.get(old.id, now) is None


async def test_hits_never_lengthen_a_life(
    bounded: Bounded, make_entry: Make, at: At, now: int
) -> None:
    store = await bounded(Bounds(10))
    brief = make_entry("brief", expires_at=now + 5)
    await store.put(brief)
    await store.touch(brief.id, 1_000_000, now + 4)
    found = await store.get(brief.id, now + 4)
    assert found is not None
    assert (found.expires_at, found.hits) == (now + 5, 1_000_000)
    assert await store.get(brief.id, now + 5) is None
    assert await store.search("tenant", "encoder", at(0), 5, now + 5) == []


async def test_popular_entry_whose_time_is_over_goes_before_live_ones(
    bounded: Bounded, make_entry: Make, now: int
) -> None:
    store = await bounded(Bounds(3))
    over = make_entry("over", expires_at=int(time.time()) + 1)
    live = [make_entry(str(number)) for number in range(3)]
    await store.put(over)
    await store.touch(over.id, 1_000_000, now)
    await until(store, "expired", lambda expired: expired == 1)
    for entry in live:
        await store.put(entry)
    assert await held(store, live, now) == ["0", "1", "2"]
    assert await number_of(store, "evicted") == 0


async def test_store_without_bounds_keeps_everything(
    bounded: Bounded, make_entry: Make, now: int
) -> None:
    store = await bounded()
    for number in range(300):
        await store.put(make_entry(str(number)))
    await store.put(make_entry("expired", expires_at=int(time.time()) - 1))
    await until(store, "expired", lambda expired: expired == 1)  # the background has been here
    assert await store.count() == 300
    assert await number_of(store, "evicted") == 0


async def test_bytes_follow_what_is_replaced_deleted_and_exchanged(
    bounded: Bounded, make_entry: Make, at: At
) -> None:
    store = await bounded()
    await until(store, "points", lambda points: points == 0)
    entries = [make_entry(str(number), completion="x" * 100 * number) for number in range(5)]
    for entry in entries:
        await store.put(entry)
    await until(store, "bytes", lambda size: size == sum(map(size_of, entries)))
    longer = make_entry("0", completion="y" * 5000, signature="cd" * 32)
    await store.put(longer)
    await store.delete([entries[1].id])
    bare = make_entry("2", degrees=None, completion="z")
    assert await store.exchange(entries[2].signature, bare)
    wanted = [longer, bare, *entries[3:]]
    assert await number_of(store, "bytes") == sum(map(size_of, wanted))


async def test_bounds_hold_after_a_restart_for_what_was_stored_before(
    bounded: Bounded, make_entry: Make, now: int
) -> None:
    store = await bounded()
    entries = [
        make_entry(str(number), created_at=now - 2000 + number, completion="x" * 100)
        for number in range(1200)
    ]
    for entry in entries:
        await store.put(entry)
    popular = entries[0]
    await store.touch(popular.id, 100, now)
    store = await bounded(Bounds(bytes=60_000))
    await until(store, "bytes", lambda size: 40_000 < size <= 60_000)
    await until(store, "evicted", lambda evicted: evicted > 0)
    found = await store.get(popular.id, now)
    assert found is not None
    assert found.hits == 100
    assert await store.get(entries[1].id, now) is None
    assert await store.get(entries[-1].id, now) is not None


async def test_bounds_of_the_worker_that_came_last_hold(
    open_store: Callable[..., EmbeddedStore], make_entry: Make
) -> None:
    before = open_store(bounds=Bounds(100), idle_exit_s=60)
    for number in range(30):
        await before.put(make_entry(str(number)))
    after = open_store(bounds=Bounds(5))
    await until(after, "points", lambda points: points == 5)
    await open_store().start()  # has none of its own, as a command beside the proxy
    await after.put(make_entry("one more"))
    await until(after, "evicted", lambda evicted: evicted == 26)
    await open_store(bounds=Bounds()).start()
    for number in range(30):
        await after.put(make_entry(f"later {number}"))
    assert await after.count() == 35


async def test_counters_of_what_was_removed_outlive_a_restart(
    bounded: Bounded, make_entry: Make
) -> None:
    store = await bounded(Bounds(5))
    for number in range(10):
        await store.put(make_entry(str(number)))
    await until(store, "evicted", lambda evicted: evicted == 5)
    await store.put(make_entry("expired", expires_at=int(time.time()) - 1))
    await until(store, "expired", lambda expired: expired == 1)
    await store.flush()
    await until(store, "flushed", lambda flushed: flushed == 5)
    store = await bounded(Bounds(5))
    stats = await store.stats()
    assert [stats[name] for name in ("evicted", "expired", "flushed", "points")] == [5, 1, 5, 0]


@ON_ALL
async def test_flush_by_age_forgets_what_is_older_and_keeps_the_rest(
    bounded: Bounded, make_entry: Make, at: At, now: int
) -> None:
    store = await bounded()
    entries = [
        make_entry(str(ago), created_at=now - ago, degrees=ago / 100) for ago in range(0, 100, 10)
    ]
    for entry in entries:
        await store.put(entry)
    assert await store.flush(now - 50) == 0
    kept = ["0", "10", "20", "30", "40", "50"]
    assert await held(store, entries, now) == kept
    found = await store.search("tenant", "encoder", at(1), 10, now)
    assert sorted(one.entry.text for one in found) == sorted(kept)
    page = await store.stale("another", None, 100, now)
    assert (sorted(entry.text for entry in page.entries), page.left) == (sorted(kept), 6)
    if isinstance(store, ServerStore):
        assert await store.tend(0) == 4
    else:
        await until(store, "flushed", lambda flushed: flushed == 4)
    assert await store.count() == 6


@ON_ALL
async def test_flush_by_age_wins_over_later_puts_of_older_entries_and_restarts(
    bounded: Bounded, make_entry: Make, now: int
) -> None:
    store = await bounded()
    await store.flush(now - 50)
    await store.flush(now - 80)  # an earlier time brings nothing back
    store = await bounded()
    old, new = make_entry("old", created_at=now - 60), make_entry("new", created_at=now - 50)
    for entry in (old, new):
        await store.put(entry)
    assert await held(store, [old, new], now) == ["new"]
    with pytest.raises(StoreError, match="`before` must be an int"):
        await store.flush(-1)


@ON_ALL
async def test_flush_of_all_ends_a_flush_by_age_of_a_clock_that_was_ahead(
    bounded: Bounded, make_entry: Make, now: int
) -> None:
    store = await bounded()
    await store.flush(now + 10**6)
    before, after = make_entry("before"), make_entry("after", epoch=1)
    await store.put(before)
    assert await store.flush() == 1
    for entry in (before, after):
        await store.put(entry)
    assert await held(store, [before, after], now) == ["after"]


async def test_flush_by_age_by_one_worker_is_obeyed_by_the_next_call_of_another(
    open_store: Callable[..., EmbeddedStore], make_entry: Make, now: int
) -> None:
    one, other = open_store(), open_store()
    entry = make_entry()
    await one.put(entry)
    assert await other.get(entry.id, now) is not None
    await one.flush(now)
    assert await other.get(entry.id, now) is None


async def test_store_killed_while_it_evicts_is_sound_and_within_its_bound_afterwards(
    open_store: Callable[..., EmbeddedStore],
    process_of: ProcessOf,
    make_entry: Make,
    now: int,
) -> None:
    rng = np.random.default_rng(11)
    kept = make_entry("asked for", created_at=now)
    evicted = 0
    for round_ in range(4):
        store = open_store(bounds=Bounds(50))
        pid = await process_of(store)
        if not round_:
            await store.put(kept)
        await store.touch(kept.id, 10, now + round_)
        last = int(rng.integers(200, 600))
        with contextlib.suppress(StoreError):
            for number in range(10_000):
                if number == last:
                    os.kill(pid, signal.SIGKILL)
                entry = make_entry(f"{round_} {number}", created_at=now - 10**6 + number)
                await store.put(entry)
        after = open_store(bounds=Bounds(50))
        await until(after, "points", lambda points: points <= 50)
        stats = await after.stats()
        assert stats["moved_aside"] == ""
        assert int(stats["evicted"]) > evicted
        evicted = int(stats["evicted"])
        assert await after.get(kept.id, now) is not None
        await store.close()
        await after.close()


async def test_metrics_show_what_a_store_holds_and_has_removed(
    bounded: Bounded, make_entry: Make
) -> None:
    store = await bounded(Bounds(5))
    for number in range(8):
        await store.put(make_entry(str(number)))
    await until(store, "evicted", lambda evicted: evicted == 3)
    count_held(await store.stats())
    value = REGISTRY.get_sample_value
    assert value("nearhit_store_removed", {"reason": "evicted"}) == 3
    assert value("nearhit_store_removed", {"reason": "expired"}) == 0
    assert value("nearhit_store_bytes") == await number_of(store, "bytes") > 0


async def test_queries_are_answered_while_many_entries_are_evicted(
    open_store: Callable[..., EmbeddedStore], make_entry: Make, now: int
) -> None:
    store = open_store(bounds=Bounds(100))
    entries = [make_entry(str(number), created_at=now - 5000 + number) for number in range(3000)]
    last = entries[-1]
    await store.put(last)
    await store.touch(last.id, 100, now)
    for start in range(0, 3000, 200):
        await asyncio.gather(*(store.put(entry) for entry in entries[start : start + 200]))
        assert await store.get(last.id, now) is not None
    await until(store, "points", lambda points: points <= 100)


def test_eviction_keeps_more_hits_of_skewed_traffic_than_dropping_the_oldest() -> None:
    """Zipf traffic with a scan of questions that are never asked again."""
    rng = np.random.default_rng(5)
    popular = rng.zipf(1.2, 20_000)
    asked = [int(one) if index % 3 else -index for index, one in enumerate(popular)]
    hits = {}
    for policy in ("oldest", "crf"):
        kept: dict[int, int] = {}
        hits[policy] = 0
        for now, question in enumerate(asked):
            if question in kept:
                hits[policy] += 1
                if policy == "crf":
                    kept[question] = after_hits(kept[question], 1, now)
                continue
            kept[question] = at_first(now)
            if len(kept) > 100:
                del kept[min(kept, key=lambda one: kept[one])]
    assert hits["crf"] > 1.1 * hits["oldest"], hits


def test_order_of_two_entries_does_not_depend_on_when_it_is_looked_at() -> None:
    """What one number stands for: the sum of all hits, each halved every `HALF_LIFE_S`."""
    rng = np.random.default_rng(3)
    for _ in range(50):
        sums, times = [], []
        for _ in range(2):
            hits = np.sort(rng.integers(0, 20 * HALF_LIFE_S, rng.integers(1, 30)))
            crf = at_first(int(hits[0]))
            for second in hits[1:]:
                crf = after_hits(crf, 1, int(second))
            later = 21 * HALF_LIFE_S
            sums.append(float(np.sum(2.0 ** ((hits - later) / HALF_LIFE_S))))
            times.append(crf)
        as_time = [1000 * (21 * HALF_LIFE_S + HALF_LIFE_S * np.log2(one)) for one in sums]
        assert times == pytest.approx(as_time, abs=50)


def test_hits_far_from_the_time_of_storing_overflow_nothing() -> None:
    assert after_hits(at_first(4_000_000_000), 1, 0) == at_first(4_000_000_000)
    assert after_hits(at_first(0), 1, 4_000_000_000) == at_first(4_000_000_000)
    assert after_hits(0, 2**53, 0) == 53 * HALF_LIFE_S * 1000


def test_bound_that_is_passed_is_cut_a_hundredth_deeper() -> None:
    assert Bounds(1000, None).excess(1000, 0) == (0, 0)
    assert Bounds(1000, None).excess(1001, 0) == (11, 0)
    assert Bounds(None, 1000).excess(10**9, 1005) == (0, 15)
