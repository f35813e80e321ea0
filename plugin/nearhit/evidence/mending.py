"""A journal that is damaged is moved aside, and a new one begun with what must not be served."""

import contextlib
import fcntl
import os
import sqlite3
from pathlib import Path
from typing import Any

from nearhit.errors import StoreError
from nearhit.evidence.journal import FILE, DamagedJournalError, Journal
from nearhit.sealing import Seal

_PARTS = ("-wal", "-shm", "")


def open_mended(
    data_dir: Path, max_decisions: int, seal: Seal | None = None
) -> tuple[Journal, Path | None]:
    """Open the journal; move one that is damaged aside, and begin anew with its quarantine.

    Blocks, while another worker does the same.

    Returns:
        the journal, and where the damaged file went, if there was one.

    Raises:
        StoreError: as `Journal`, but for damage.
    """
    try:
        folder = os.open(data_dir, os.O_RDONLY | os.O_DIRECTORY)
    except OSError as error:
        raise StoreError(f"{data_dir} must be a folder ({error.strerror}); check it") from error
    try:
        fcntl.flock(folder, fcntl.LOCK_EX)  # one worker looks and moves, others find the new one
        try:
            return _open_checked(data_dir, max_decisions, seal), None
        except DamagedJournalError:
            path = data_dir / FILE
            quarantine = _salvaged(path)
        aside = path.with_name(f"{FILE}.damaged.bak")
        for part in _PARTS:
            with contextlib.suppress(FileNotFoundError):
                Path(f"{path}{part}").replace(f"{aside}{part}")
        journal = Journal(data_dir, max_decisions, seal)
        journal.restore(quarantine)
        return journal, aside
    except OSError as error:
        raise StoreError(f"{data_dir} must be writable ({error.strerror}); check it") from error
    finally:
        os.close(folder)


def _open_checked(data_dir: Path, max_decisions: int, seal: Seal | None) -> Journal:
    journal = Journal(data_dir, max_decisions, seal)
    try:
        journal.check()
    except BaseException:
        journal.close()
        raise
    return journal


def _salvaged(path: Path) -> list[tuple[Any, ...]]:
    """Return what must not be served, as far as a damaged file still tells."""
    uri = f"{path.absolute().as_uri()}?mode=ro"
    try:
        with contextlib.closing(sqlite3.connect(uri, uri=True)) as db:
            return db.execute("SELECT * FROM quarantine").fetchall()
    except sqlite3.Error:
        return []
