"""Until when the answers of a tenant, model group or question do not count: a file of its own.

DATA_DIR/flushes.json    {"tenant:<digest>", "model:<name>" or "text:<digest>": Unix seconds}
DATA_DIR/openings.json   when a valve was opened by hand, for `valves`; likewise

Not in the journal: a flush must be known before the first answer is served, and holds whether or
not the journal can be opened. Replaced whole, so that a reader needs no lock. All functions block,
for well under a millisecond.
"""

import fcntl
import json
import math
import os
import tempfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Final

FILE: Final = "flushes.json"
OPENINGS: Final = "openings.json"
EVERYTHING: Final = "everything"
AHEAD_S: Final = 60  # that a mark may be ahead of the clock before times are not believed
_LONGEST_LIFE_S: Final = 31_536_000  # of an answer: an older mark forbids nothing any more


def read_flushes(data_dir: Path, file: str = FILE) -> dict[str, int]:
    """Return the marks of a file; of a damaged one, a mark for everything up to then.

    Raises:
        OSError: the file is there and cannot be read: nothing may be served.
    """
    path = data_dir / file
    try:
        found = json.loads(path.read_bytes())
        return {str(what): int(at) for what, at in found.items()}
    except FileNotFoundError:
        return {}
    except (ValueError, TypeError, AttributeError, RecursionError, OverflowError):
        return {EVERYTHING: math.ceil(path.stat().st_mtime)}


def note_flush(data_dir: Path, what: str, at: int, file: str = FILE) -> None:
    """Let the answers of one name up to `at` no longer count; an earlier mark is not taken back.

    Raises:
        OSError: it cannot be written; nothing has changed.
    """
    _change(data_dir, add={what: at}, drop=(), now=at, file=file)


def drop_flushes(data_dir: Path, what: Iterable[str], now: int) -> None:
    """Take marks back whose answers are gone.

    Raises:
        OSError: as `note_flush`.
    """
    _change(data_dir, add={}, drop=what, now=now)


def _change(
    data_dir: Path, add: Mapping[str, int], drop: Iterable[str], now: int, file: str = FILE
) -> None:
    """Replace the file; the folder's lock keeps two workers from losing each other's marks."""
    folder = os.open(data_dir, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(folder, fcntl.LOCK_EX)
        marks = read_flushes(data_dir, file)
        marks |= {what: max(at, marks.get(what, at)) for what, at in add.items()}
        dropped = set(drop)
        kept = {
            what: at
            for what, at in marks.items()
            if what not in dropped and at > now - _LONGEST_LIFE_S
        }
        descriptor, name = tempfile.mkstemp(prefix=f"{file}.", dir=data_dir)  # mode 0600
        try:
            with os.fdopen(descriptor, "w", encoding="utf-8") as written:
                json.dump(kept, written)
                written.flush()
                os.fsync(written.fileno())
            Path(name).replace(data_dir / file)
        except BaseException:
            Path(name).unlink(missing_ok=True)
            raise
        os.fsync(folder)
    finally:
        os.close(folder)
