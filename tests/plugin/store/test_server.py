"""A Qdrant server as the store, over a real socket: what its faults cost, and what is checked."""

import asyncio
import contextlib
import logging
import math
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any, Protocol
from uuid import uuid4

import pytest
from prometheus_client import REGISTRY
from qdrant_client import AsyncQdrantClient, models

import stack
from doubles import DIMENSION, FakeEncoder
from nearhit.cache import Cache
from nearhit.config import Settings
from nearhit.decision import Miss
from nearhit.errors import StoreBusy, StoreError
from nearhit.metrics import count_held
from nearhit.request import Question
from nearhit.store import Entry, server
from nearhit.store.base import Browse, Vector
from nearhit.store.server import ServerStore

Make = Callable[..., Entry]
At = Callable[[float], Vector]
SECRET = b"0123456789abcdef0123456789abcdef"


class Standin(Protocol):
    url: str

    def fail(self, kind: str | None = None, **how: Any) -> None: ...

    @property
    def calls(self) -> int: ...


class OpenServer(Protocol):
    def __call__(self, url: str, **options: Any) -> ServerStore: ...


@pytest.fixture
async def store(standin: Standin, open_server: OpenServer) -> ServerStore:
    opened = open_server(standin.url)
    await opened.start()
    return opened


@pytest.fixture
async def client(standin: Standin) -> AsyncIterator[AsyncQdrantClient]:
    """Somebody else who can reach the server."""
    other = AsyncQdrantClient(url=standin.url, check_compatibility=False)
    yield other
    await other.close()


async def until_up(store: ServerStore) -> None:
    while not store.is_up:  # noqa: ASYNC110 - ends by the test's timeout
        await asyncio.sleep(0.02)


def question(text: str = "How do I sort a list?") -> Question:
    return Question(id=uuid4(), tenant="t", scope="tenant", text=text, model="m", exact_only=None)


# ---- what a failing server costs -------------------------------------------------------------

FAULTS: list[dict[str, Any]] = [
    {"kind": "status", "status": 500},
    {"kind": "status", "status": 503},
    {"kind": "status", "status": 429},
    {"kind": "status", "status": 401},
    {"kind": "status", "status": 302},
    {"kind": "hang"},
    {"kind": "late", "seconds": 2},
    {"kind": "cut"},
    {"kind": "garbage"},
    {"kind": "empty"},
]


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: "-".join(map(str, fault.values())))
async def test_server_that_fails_is_a_miss_then_asked_no_more_then_heals(
    standin: Standin, open_server: OpenServer, make_entry: Make, fault: dict[str, Any]
) -> None:
    store = open_server(standin.url, timeout_ms=300)
    await store.start()
    settings = Settings(deadline_ms=1000, similarity_threshold=0.9)
    cache = Cache(settings, SECRET, store, FakeEncoder({question().text: 0}))

    standin.fail(**fault)
    for _ in range(server.FAILURES):
        lookup = await cache.answer(question())
        assert isinstance(lookup.outcome, Miss)
        assert lookup.outcome.reason in ("store_failed", "deadline")
        cache.drop(lookup, "test")
    assert not store.is_up
    before = standin.calls
    for _ in range(20):
        with pytest.raises(StoreError, match="server is down"):
            await store.epoch()
    assert standin.calls - before <= 1  # the breaker's own trial

    standin.fail()
    await until_up(store)
    lookup = await cache.answer(question())
    assert lookup.outcome == Miss("nothing_near")
    await store.put(make_entry())
    await cache.close()


async def test_call_that_fails_once_is_made_again(
    store: ServerStore, standin: Standin, make_entry: Make, now: int
) -> None:
    entry = make_entry()
    await store.put(entry)
    standin.fail("status", status=503, times=1)
    assert await store.get(entry.id, now) is not None
    assert store.is_up


async def test_server_that_is_not_there_is_said_once_and_costs_no_wait(
    open_server: OpenServer, now: int, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING, "nearhit")
    store = open_server(f"http://127.0.0.1:{stack.free_port()}")
    with pytest.raises(StoreError, match="server is down: ConnectError"):
        await store.start()
    for _ in range(50):
        with pytest.raises(StoreError, match="server is down"):
            await store.get(uuid4(), now)
    assert len([line for line in caplog.messages if "requests go to the model" in line]) == 1


async def test_server_that_comes_back_after_its_end_is_found_again(
    tmp_path: Path, open_server: OpenServer, now: int, make_entry: Make, start_standin: Any
) -> None:
    port = stack.free_port()
    with start_standin(tmp_path / "a", port) as first:
        store = open_server(first)
        await store.start()
        await store.put(make_entry())
    for _ in range(server.FAILURES):
        with pytest.raises(StoreError, match="Qdrant server"):
            await store.get(make_entry().id, now)
    assert not store.is_up
    with start_standin(tmp_path / "b", port):  # another one, with nothing in it
        await until_up(store)
        assert await store.get(make_entry().id, now) is None
        await store.put(make_entry())
        assert await store.get(make_entry().id, now) is not None


async def test_look_ups_that_are_given_up_open_the_breaker(
    standin: Standin, open_server: OpenServer, now: int
) -> None:
    store = open_server(standin.url, timeout_ms=200)
    await store.start()
    standin.fail("hang")
    for _ in range(server.FAILURES):
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(0.15):
                await store.get(uuid4(), now)
    assert not store.is_up


async def test_one_call_too_many_is_refused_at_once(
    standin: Standin, open_server: OpenServer, now: int
) -> None:
    store = open_server(standin.url, max_pending=2)
    await store.start()
    standin.fail("hang")
    waiting = [asyncio.create_task(store.get(uuid4(), now)) for _ in range(2)]
    await asyncio.sleep(0.1)
    with pytest.raises(StoreBusy, match="2 calls wait"):
        await store.get(uuid4(), now)
    for task in waiting:
        task.cancel()
    await asyncio.gather(*waiting, return_exceptions=True)


# ---- what a server may answer ----------------------------------------------------------------


async def test_entries_of_a_foreign_scope_are_dropped_whatever_the_server_says(
    store: ServerStore, standin: Standin, make_entry: Make, at: At, now: int
) -> None:
    await store.put(make_entry(scope="theirs"))
    standin.fail("foreign")
    assert await store.search("ours", "encoder", at(0), 5, now) == []


async def test_points_that_nearhit_did_not_write_are_passed_over(
    store: ServerStore,
    client: AsyncQdrantClient,
    new_collection: str,
    make_entry: Make,
    at: At,
    now: int,
) -> None:
    entry = make_entry(degrees=10)
    await store.put(entry)
    alike = {"scope": "tenant", "fingerprint": "encoder", "epoch": 0, "expires_at": now + 60}
    strange: list[dict[str, Any]] = [
        alike,
        {**alike, "text": 3, "completion": None, "model": [], "created_at": 1, "hits": 0}
        | {"signature": "ab"},
    ]
    points = [
        models.PointStruct(id=str(uuid4()), vector=at(0).tolist(), payload=payload)
        for payload in strange
    ]
    await client.upsert(new_collection, points)
    found = await store.search("tenant", "encoder", at(0), 5, now)
    assert [neighbour.entry.id for neighbour in found] == [entry.id]
    for point in points:
        assert await store.get(type(entry.id)(str(point.id)), now) is None


# ---- what a person looks for ------------------------------------------------------------------


async def test_listing_names_live_entries_of_all_scopes_by_page_text_tenant_and_meaning(
    store: ServerStore, make_entry: Make, at: At, now: int
) -> None:
    for number in range(30):
        tenant = f"t{number % 2}"
        entry = make_entry(str(number), degrees=3 * number, scope=tenant, tenant=tenant)
        await store.put(entry)
    await store.put(make_entry("Which Straße?", degrees=120))
    await store.put(make_entry("exact", degrees=None))
    await store.put(make_entry("dead", expires_at=now))

    async def listed(**asked: Any) -> list[str]:
        texts: list[str] = []
        after = None
        while True:
            listing = await store.browse(Browse(now=now, after=after, **asked))
            assert len(listing.entries) <= asked["limit"]
            texts += [entry.text for entry in listing.entries]
            after = listing.next
            if after is None:
                return texts

    everything = sorted(["exact", "Which Straße?", *map(str, range(30))])
    for limit in (1, 7, 100):
        assert sorted(await listed(limit=limit)) == everything
        assert await listed(limit=limit, contains="STRASSE") == ["Which Straße?"]
        assert len(await listed(limit=limit, tenant="t1")) == 15
    near: dict[str, Any] = {"vector": at(0), "fingerprint": "encoder"}
    assert await listed(limit=3, **near) == ["0", "1", "2"]
    assert await listed(limit=3, tenant="t1", **near) == ["1", "3", "5"]
    for asked, message in (({"limit": 0}, "`limit`"), ({"limit": 1, "vector": at(0)}, "`finger")):
        with pytest.raises(StoreError, match=message):
            await store.browse(Browse(now=now, **asked))
    await store.flush()
    assert await listed(limit=5) == []


# ---- what is checked of a collection ---------------------------------------------------------


async def test_new_collection_is_made_as_the_settings_say(
    standin: Standin, open_server: OpenServer, client: AsyncQdrantClient, new_collection: str
) -> None:
    store = open_server(
        standin.url,
        shards=6,
        replication_factor=3,
        write_consistency_factor=2,
        quantization="int8",
    )
    await store.start()
    info = await client.get_collection(new_collection)
    params = info.config.params
    assert isinstance(params.vectors, models.VectorParams)
    assert (params.shard_number, params.replication_factor) == (6, 3)
    assert params.write_consistency_factor == 2
    assert params.on_disk_payload
    assert params.vectors.on_disk
    assert params.vectors.datatype == models.Datatype.FLOAT16
    assert isinstance(info.config.quantization_config, models.ScalarQuantization)
    assert info.config.hnsw_config.payload_m == 16
    scope = info.payload_schema["scope"].params
    assert isinstance(scope, models.KeywordIndexParams)
    assert scope.is_tenant
    assert {"expires_at", "epoch", "created_at", "fingerprint"} <= set(info.payload_schema)


@pytest.mark.parametrize(
    ("vectors", "message"),
    [
        (models.VectorParams(size=4, distance=models.Distance.COSINE), "dimension 8.*has 4"),
        (models.VectorParams(size=DIMENSION, distance=models.Distance.DOT), "Cosine.*has Dot"),
    ],
    ids=["dimension", "distance"],
)
async def test_collection_of_other_vectors_is_refused(
    standin: Standin,
    open_server: OpenServer,
    client: AsyncQdrantClient,
    new_collection: str,
    vectors: models.VectorParams,
    message: str,
) -> None:
    await client.create_collection(
        new_collection,
        vectors,
        hnsw_config=models.HnswConfigDiff(m=16),
        on_disk_payload=True,
    )
    with pytest.raises(StoreError, match=message):
        await open_server(standin.url).start()


async def test_collection_of_something_else_is_refused_and_left_as_it_is(
    standin: Standin, open_server: OpenServer, client: AsyncQdrantClient, new_collection: str
) -> None:
    vectors = models.VectorParams(size=DIMENSION, distance=models.Distance.COSINE)
    await client.create_collection(
        new_collection, vectors, hnsw_config=models.HnswConfigDiff(m=16), on_disk_payload=True
    )
    point = models.PointStruct(id=str(uuid4()), vector=[1.0] * DIMENSION, payload={"a": "b"})
    await client.upsert(new_collection, [point])
    with pytest.raises(StoreError, match="must be empty or nearhit's own"):
        await open_server(standin.url).start()
    assert (await client.count(new_collection)).count == 1


async def test_collection_of_another_secret_is_refused(
    standin: Standin, open_server: OpenServer
) -> None:
    await open_server(standin.url, owner="one").start()
    with pytest.raises(StoreError, match="same NEARHIT_SECRET"):
        await open_server(standin.url, owner="another").start()


@pytest.mark.parametrize(
    ("version", "message"), [("1.9.0", "1.17 or later, got 1.9.0"), ("banana", "must be a Qdrant")]
)
async def test_server_of_another_version_is_refused(
    standin: Standin, open_server: OpenServer, version: str, message: str
) -> None:
    standin.fail("version", version=version)
    with pytest.raises(StoreError, match=message):
        await open_server(standin.url).start()


async def test_key_is_sent_and_never_shown(
    tmp_path: Path, open_server: OpenServer, start_standin: Any, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    with start_standin(tmp_path, stack.free_port(), "the-right-key") as url:
        right = open_server(url, api_key="the-right-key")
        await right.start()
        assert await right.count() == 0
        with pytest.raises(StoreError, match="HTTP 401") as caught:
            await open_server(url, api_key="a-wrong-key").start()
    said = caplog.text + repr(caught.value) + repr(caught.value.__cause__)
    assert "right-key" not in said
    assert "wrong-key" not in said
    assert "without TLS" in said


# ---- several proxies -------------------------------------------------------------------------


async def test_flush_by_one_store_is_obeyed_by_another_within_a_second(
    standin: Standin, open_server: OpenServer, make_entry: Make, at: At, now: int
) -> None:
    one, other = open_server(standin.url), open_server(standin.url)
    await one.start()
    await other.start()
    await one.put(make_entry())
    assert len(await other.search("tenant", "encoder", at(0), 5, now)) == 1
    await one.flush()
    assert await other.get(make_entry().id, now) is None  # at once
    await asyncio.sleep(server.ERA_AGE_S)
    assert await other.search("tenant", "encoder", at(0), 5, now) == []
    await other.put(make_entry(epoch=1))
    assert await one.get(make_entry().id, now) is not None


async def test_flush_by_age_by_one_store_is_obeyed_by_another_and_by_the_next_start(
    standin: Standin, open_server: OpenServer, make_entry: Make, at: At, now: int
) -> None:
    one, other = open_server(standin.url), open_server(standin.url)
    await one.start()
    await other.start()
    old, new = make_entry("old", created_at=now - 60), make_entry("new", created_at=now - 50)
    for entry in (old, new):
        await one.put(entry)
    assert len(await other.search("tenant", "encoder", at(0), 5, now)) == 2
    await one.flush(now - 50)
    assert await other.get(old.id, now) is None  # at once
    await asyncio.sleep(server.ERA_AGE_S)
    later = open_server(standin.url)
    await later.start()
    for store in (other, later):
        await store.put(old)
        found = await store.search("tenant", "encoder", at(0), 5, now)
        assert [neighbour.entry.text for neighbour in found] == ["new"]
        assert await store.get(old.id, now) is None
    assert await later.tend(0) == 1
    assert await later.count() == 1


async def test_flushes_at_once_never_bring_an_entry_back(
    standin: Standin, open_server: OpenServer, make_entry: Make, now: int
) -> None:
    stores = [open_server(standin.url) for _ in range(3)]
    for store in stores:
        await store.start()
    for _ in range(3):
        before = await stores[0].epoch()
        await stores[0].put(make_entry(epoch=before))
        after = await asyncio.gather(*(store.flush() for store in stores))
        assert min(after) > before
        assert await stores[1].get(make_entry().id, now) is None


async def test_stores_that_make_the_collection_at_once_share_it(
    standin: Standin, open_server: OpenServer, make_entry: Make, now: int
) -> None:
    stores = [open_server(standin.url) for _ in range(4)]
    await asyncio.gather(*(store.start() for store in stores))
    await stores[0].put(make_entry())
    assert await stores[3].get(make_entry().id, now) is not None


# ---- upkeep ----------------------------------------------------------------------------------


async def test_upkeep_deletes_what_is_dead_and_the_least_asked_for_beyond_the_bound(
    standin: Standin, open_server: OpenServer, make_entry: Make, now: int
) -> None:
    store = open_server(standin.url, max_entries=3)
    await store.start()
    await store.put(make_entry("flushed"))
    await store.flush()
    for number in range(5):
        await store.put(make_entry(str(number), epoch=1, created_at=now - 100 + number))
    await store.touch(make_entry("0").id, 5, now)
    await store.put(make_entry("expired", epoch=1, expires_at=int(time.time()) - 10))
    assert await store.tend(int(time.time())) == 4
    assert await store.count() == 3
    for number in range(5):
        held = await store.get(make_entry(str(number)).id, now)
        assert (held is not None) == (number in (0, 3, 4))
    assert await store.tend(int(time.time())) == 0


async def test_gauges_of_what_a_server_counts_itself_are_not_a_number(
    store: ServerStore, make_entry: Make
) -> None:
    await store.put(make_entry())
    stats = await store.stats()
    assert stats == {"points": 1}
    count_held(stats)
    for name, labels in (
        ("nearhit_store_bytes", {}),
        ("nearhit_store_removed", {"reason": "evicted"}),
    ):
        value = REGISTRY.get_sample_value(name, labels)
        assert value is not None
        assert math.isnan(value)
