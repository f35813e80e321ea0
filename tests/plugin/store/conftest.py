"""Stores to test, entries to put into them, and processes to kill."""

import asyncio
import contextlib
import itertools
import os
import signal
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any, Protocol
from uuid import NAMESPACE_URL, uuid5

import httpx
import pytest
from qdrant_client import AsyncQdrantClient

import qdrant_standin
import stack
from doubles import DIMENSION, InProcessStore, vector_at
from nearhit.config import StoreSettings
from nearhit.errors import StoreError
from nearhit.sealing import Seal
from nearhit.store import Entry, Store
from nearhit.store.base import Vector
from nearhit.store.collection import Collection
from nearhit.store.embedded import EmbeddedStore
from nearhit.store.sealed import SealedStore
from nearhit.store.server import ServerStore

REAL_SERVER = os.environ.get("NEARHIT_TEST_QDRANT_URL")
REAL_KEY = os.environ.get("NEARHIT_TEST_QDRANT_API_KEY")
NOW = 4_000_000_000  # later than any run of these tests, so that upkeep sweeps nothing


class OpenStore(Protocol):
    def __call__(self, path: Path | None = None, **options: Any) -> EmbeddedStore: ...


def entry_of(text: str = "question", *, degrees: float | None = 0.0, **fields: Any) -> Entry:
    """An entry, live at `NOW` unless `fields` say otherwise; no vector when `degrees` is None."""
    values: dict[str, Any] = {
        "id": uuid5(NAMESPACE_URL, f"{fields.get('scope', 'tenant')}{text}"),
        "scope": "tenant",
        "fingerprint": "" if degrees is None else "encoder",
        "text": text,
        "completion": '{"answer": "a stored answer"}',
        "model": "a-model",
        "created_at": NOW - 10,
        "expires_at": NOW + 3600,
        "epoch": 0,
        "signature": "ab" * 32,
        "vector": None if degrees is None else vector_at(degrees),
    }
    return Entry(**(values | fields))


@pytest.fixture
def make_entry() -> Callable[..., Entry]:
    return entry_of


@pytest.fixture
def at() -> Callable[[float], Vector]:
    return vector_at


@pytest.fixture
def now() -> int:
    return NOW


@pytest.fixture
def data_dir(tmp_path: Path) -> Path:
    return tmp_path / "data"


@pytest.fixture
async def open_store(data_dir: Path) -> AsyncIterator[OpenStore]:
    """Open clients of a data folder; their process leaves a second after the last of them."""
    opened: list[EmbeddedStore] = []

    def open_(path: Path | None = None, **options: Any) -> EmbeddedStore:
        options = {"dimension": DIMENSION, "idle_exit_s": 1.0} | options
        opened.append(EmbeddedStore(path or data_dir, **options))
        return opened[-1]

    yield open_
    for store in opened:
        await store.close()


class Standin:
    """The stand-in for a Qdrant server, as a test sees it."""

    def __init__(self, url: str) -> None:
        self.url = url

    def fail(self, kind: str | None = None, **how: Any) -> None:
        fault = {} if kind is None else {"kind": kind, **how}
        httpx.post(f"{self.url}/control/fault", json=fault).raise_for_status()

    @property
    def calls(self) -> int:
        return int(httpx.get(f"{self.url}/control/calls").json()["calls"])


@contextlib.contextmanager
def _standin_on(folder: Path, port: int, key: str | None = None) -> Iterator[str]:
    folder.mkdir(exist_ok=True)
    command = [sys.executable, qdrant_standin.__file__, f"--port={port}", f"--folder={folder}"]
    command += [] if key is None else [f"--api-key={key}"]
    with stack.server(command, folder / "log", port, "/control/calls") as server:
        yield server.url


@pytest.fixture
def start_standin() -> Callable[..., contextlib.AbstractContextManager[str]]:
    """Run a stand-in of the test's own, on a port, perhaps with a key."""
    return _standin_on


@pytest.fixture(scope="session")
def standin_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with _standin_on(tmp_path_factory.mktemp("qdrant"), stack.free_port()) as url:
        yield url


@pytest.fixture
def standin(standin_server: str) -> Iterator[Standin]:
    """The stand-in, which works."""
    server = Standin(standin_server)
    yield server
    server.fail()


_COLLECTIONS = itertools.count()


@pytest.fixture
def new_collection() -> str:
    """A name that no other test and no other run has."""
    return f"nearhit-test-{os.getpid()}-{next(_COLLECTIONS)}"


class OpenServer(Protocol):
    def __call__(self, url: str, **options: Any) -> ServerStore: ...


@pytest.fixture
async def open_server(new_collection: str) -> AsyncIterator[OpenServer]:
    """Make clients of a server, all of one new collection; a busy machine answers late."""
    opened: list[ServerStore] = []

    def open_(url: str, **options: Any) -> ServerStore:
        given = {name: options.pop(name) for name in ("owner", "epoch") if name in options}
        dimension = options.pop("dimension", DIMENSION)
        values: dict[str, Any] = {"url": url, "collection": new_collection, "timeout_ms": 5000}
        opened.append(ServerStore(StoreSettings(**(values | options)), dimension, **given))
        return opened[-1]

    yield open_
    for store in opened:
        await store.close()


def _in_memory() -> ServerStore:
    """The client's own engine, in this process: no network."""

    async def connect() -> Collection:
        return Collection(AsyncQdrantClient(location=":memory:"), "nearhit", DIMENSION)

    return ServerStore(StoreSettings(timeout_ms=5000), DIMENSION, connect=connect)


@pytest.fixture(
    params=[
        "engine",
        "embedded",
        "memory",
        "standin",
        "embedded-encrypted",
        "standin-encrypted",
        pytest.param(
            "server",
            marks=pytest.mark.skipif(not REAL_SERVER, reason="no NEARHIT_TEST_QDRANT_URL"),
        ),
    ]
)
async def store(
    request: pytest.FixtureRequest,
    data_dir: Path,
    open_store: OpenStore,
    open_server: OpenServer,
    new_collection: str,
) -> AsyncIterator[Store]:
    """Every backend that must keep the contract: one more is one more parameter."""
    match request.param:
        case "engine":
            opened: Store = InProcessStore(data_dir)
        case "embedded":
            opened = open_store()
        case "embedded-encrypted":
            opened = SealedStore(open_store(), Seal("encrypted", b"secret"), DIMENSION)
        case "standin-encrypted":
            server = open_server(request.getfixturevalue("standin").url)
            opened = SealedStore(server, Seal("encrypted", b"secret"), DIMENSION)
        case "memory":
            opened = _in_memory()
        case "standin":
            opened = open_server(request.getfixturevalue("standin").url)
        case _:
            assert REAL_SERVER
            opened = open_server(REAL_SERVER, api_key=REAL_KEY)
    if isinstance(opened, ServerStore | SealedStore):
        await opened.start()
    yield opened
    await opened.close()
    if request.param == "server":
        client = AsyncQdrantClient(url=REAL_SERVER, api_key=REAL_KEY)
        await client.delete_collection(new_collection)
        await client.close()


async def _process_of(store: EmbeddedStore) -> int:
    while True:  # ends by the test's timeout
        try:
            return int((await store.stats())["pid"])
        except StoreError:  # backing off after a death
            await asyncio.sleep(0.02)


async def _gone(pid: int) -> None:
    while True:  # ends by the test's timeout
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return
        await asyncio.sleep(0.02)


@pytest.fixture
def process_of() -> Callable[[EmbeddedStore], Awaitable[int]]:
    """Pid of a store's process, once it is up."""
    return _process_of


@pytest.fixture
def gone() -> Callable[[int], Awaitable[None]]:
    """Wait until a process has ended and was waited for."""
    return _gone


@pytest.fixture
def suspend() -> Iterator[Callable[[int], None]]:
    """Stop processes; those that the test did not continue are continued after it."""
    stopped: list[int] = []

    def stop(pid: int) -> None:
        stopped.append(pid)
        os.kill(pid, signal.SIGSTOP)

    yield stop
    for pid in stopped:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGCONT)
