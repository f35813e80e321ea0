"""The marks of what was flushed: durable, shared, and safe where the file is not."""

import multiprocessing
from pathlib import Path

import pytest

from nearhit.evidence.flushes import EVERYTHING, FILE, drop_flushes, note_flush, read_flushes

NOW = 4_000_000_000


def test_marks_are_read_back_and_the_newest_counts(tmp_path: Path) -> None:
    assert read_flushes(tmp_path) == {}
    note_flush(tmp_path, "model:m", NOW)
    note_flush(tmp_path, "tenant:t", NOW + 1)
    note_flush(tmp_path, "model:m", NOW + 2)
    assert read_flushes(tmp_path) == {"model:m": NOW + 2, "tenant:t": NOW + 1}
    assert (tmp_path / FILE).stat().st_mode & 0o777 == 0o600
    assert [path.name for path in tmp_path.iterdir()] == [FILE]


def test_mark_that_outlived_every_answer_or_is_taken_back_goes(tmp_path: Path) -> None:
    note_flush(tmp_path, "model:old", NOW - 40_000_000)
    note_flush(tmp_path, "model:m", NOW)
    note_flush(tmp_path, "model:n", NOW)
    drop_flushes(tmp_path, ["model:m"], NOW)
    assert read_flushes(tmp_path) == {"model:n": NOW}


@pytest.mark.parametrize(
    "damage", [b"", b"{", b"[1]", b'{"model:m": "x"}', b"\xff", b'{"a": NaN}', b"[" * 100_000]
)
def test_damaged_file_flushes_everything_up_to_then(tmp_path: Path, damage: bytes) -> None:
    (tmp_path / FILE).write_bytes(damage)
    at = (tmp_path / FILE).stat().st_mtime
    assert list(read_flushes(tmp_path)) == [EVERYTHING]
    assert at <= read_flushes(tmp_path)[EVERYTHING] <= at + 1
    note_flush(tmp_path, "model:m", int(at))
    assert set(read_flushes(tmp_path)) == {EVERYTHING, "model:m"}


def _note_many(folder: Path, name: str) -> None:
    for number in range(50):
        note_flush(folder, f"model:{name}{number}", NOW)


def test_workers_that_flush_at_once_lose_no_mark(tmp_path: Path) -> None:
    spawn = multiprocessing.get_context("spawn")
    workers = [spawn.Process(target=_note_many, args=(tmp_path, name)) for name in "ab"]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(60)
    assert len(read_flushes(tmp_path)) == 100
