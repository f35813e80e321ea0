"""Stores to test, entries to put into them, and processes to kill."""

import asyncio
import contextlib
import os
import signal
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any, Protocol
from uuid import NAMESPACE_URL, uuid5

import pytest

from doubles import DIMENSION, InProcessStore, vector_at
from nearhit.errors import StoreError
from nearhit.store import Entry, Store
from nearhit.store.base import Vector
from nearhit.store.embedded import EmbeddedStore

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


@pytest.fixture(params=["engine", "embedded"])
async def store(
    request: pytest.FixtureRequest, data_dir: Path, open_store: OpenStore
) -> AsyncIterator[Store]:
    """Every backend that must keep the contract: one more is one more parameter."""
    opened: Store = InProcessStore(data_dir) if request.param == "engine" else open_store()
    yield opened
    await opened.close()


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
