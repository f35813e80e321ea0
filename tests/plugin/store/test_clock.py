"""A clock that jumps, in the store process alone and for good."""

import asyncio
import os
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from nearhit.store import Entry
from nearhit.store.embedded import EmbeddedStore

CLOCK = Path(__file__).resolve().parents[2] / "robustness" / "clock"


def wait_until_said(log: Path, text: str) -> None:
    """Wait for a line of the store process."""
    end = time.monotonic() + 20
    while text not in log.read_text("utf-8"):
        assert time.monotonic() < end, log.read_text("utf-8")
        time.sleep(0.1)


async def test_clock_that_jumps_far_ahead_and_back_deletes_nothing(
    tmp_path: Path,
    open_store: Callable[..., EmbeddedStore],
    make_entry: Callable[..., Entry],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("CLOCK_FILE", str(tmp_path / "clock"))
    monkeypatch.setenv(
        "PYTHONPATH", os.pathsep.join([str(CLOCK), os.environ.get("PYTHONPATH", "")])
    )
    store = open_store(tmp_path / "data")
    now = int(time.time())
    entry = replace(make_entry(), created_at=now, expires_at=now + 60)
    await store.put(entry)
    (tmp_path / "clock").write_text("1e7")
    said = tmp_path / "data" / "store.log", "the clock jumped"
    await asyncio.to_thread(wait_until_said, *said)
    assert await store.get(entry.id, now + 10_000_000) is None
    assert await store.count() == 1
    (tmp_path / "clock").write_text("0")
    assert await store.get(entry.id, now + 1) is not None
