"""The files of the embedded store, and the little it must know before the engine opens.

DATA_DIR/store.lock     flock of the one store process, held as long as it lives
DATA_DIR/store.sock     its Unix socket
DATA_DIR/store.log      its log, never with text of a prompt
DATA_DIR/store/         meta.json, opening, and shard/ (the engine's own)
DATA_DIR/store.*.bak/   a store that could not be used, the last of each kind
"""

import contextlib
import json
import os
import shutil
import sys
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

from nearhit.errors import ConfigError, StoreError

SCHEMA = 2
"""Version of what the folder holds; another one is moved aside, never converted."""

LOCK = "store.lock"
SOCKET = "store.sock"
LOG = "store.log"
STORE = "store"
SHARD = "shard"

MAX_OPENINGS = 3
_META = "meta.json"
_OPENING = "opening"
_MAX_SOCKET_PATH = 100  # sun_path holds 104 bytes on macOS and 108 on Linux


@dataclass(frozen=True, slots=True)
class Meta:
    """What must be known beside the shard.

    Attributes:
        schema: `SCHEMA` of the writer.
        dimension: Length of every vector.
        epoch: Entries of another epoch are flushed.
        floor: Points that must be there on opening. Edge loads a shard whose id mapping
            was cut (300 of 2,300 points) without a word; this notices.
        since: Entries of an earlier second are flushed.
        evicted: Entries removed for want of room, since the store was made.
        expired: Entries removed because their time was over.
        flushed: Entries removed after a flush.
    """

    schema: int
    dimension: int
    epoch: int
    floor: int
    since: int = 0
    evicted: int = 0
    expired: int = 0
    flushed: int = 0


def read_meta(store: Path) -> Meta | None:
    """Return the meta of a store folder; None when it cannot be read.

    A meta of another schema may hold other fields: what is missing reads as 0.
    """
    try:
        raw = json.loads((store / _META).read_text())
        values = {name: raw.get(name, 0) for name in Meta.__slots__}
    except (OSError, ValueError, AttributeError):
        return None
    if not all(type(value) is int and value >= 0 for value in values.values()):
        return None
    return Meta(**values)


def write_meta(store: Path, meta: Meta) -> None:
    """Replace the meta atomically; on return it survives a loss of power."""
    path = store / _META
    draft = path.with_suffix(".draft")
    with draft.open("w") as file:
        json.dump(asdict(meta), file)
        file.flush()
        os.fsync(file.fileno())
    draft.replace(path)
    fd = os.open(store, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def move_aside(store: Path, kind: str) -> Path:
    """Rename the store to `store.<kind>.bak`, in place of an earlier one, and return that."""
    target = store.with_name(f"{store.name}.{kind}.bak")
    shutil.rmtree(target, ignore_errors=True)
    return store.rename(target)


def begin_opening(store: Path) -> int:
    """Count and return the openings in a row that did not end: a load that kills us shows."""
    path = store / _OPENING
    try:
        begun = int(path.read_text()) + 1
    except (OSError, ValueError):
        begun = 1
    path.write_text(str(begun))
    return begun


def end_opening(store: Path) -> None:
    """Note that the engine opened."""
    (store / _OPENING).unlink(missing_ok=True)


@contextlib.contextmanager
def socket_path(data_dir: Path) -> Iterator[str]:
    """Yield a name of the socket that fits into a socket address, for use within the block.

    Raises:
        ConfigError: The path is too long and this system has no way around.
        OSError: The folder is missing.
    """
    path = os.fspath(data_dir / SOCKET)
    if len(os.fsencode(path)) <= _MAX_SOCKET_PATH:
        yield path
        return
    check_length(data_dir)
    fd = os.open(data_dir, getattr(os, "O_PATH", 0) | os.O_DIRECTORY)
    try:
        yield f"/proc/self/fd/{fd}/{SOCKET}"
    finally:
        os.close(fd)


def check_length(data_dir: Path) -> None:
    """Refuse a folder whose socket cannot be named.

    Raises:
        ConfigError: Too long, on a system without /proc.
    """
    length = len(os.fsencode(data_dir / SOCKET))
    if length > _MAX_SOCKET_PATH and not sys.platform.startswith("linux"):
        raise ConfigError(
            f"`store.path` must be at most {_MAX_SOCKET_PATH - len(SOCKET) - 1} bytes long on "
            f"{sys.platform}, got {length - len(SOCKET) - 1}; choose a shorter folder"
        )


def secure(data_dir: Path) -> None:
    """Make the folder if need be, and close it to everyone else.

    Raises:
        StoreError: It cannot be made, or belongs to another user.
    """
    try:
        data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        data_dir.chmod(0o700)
    except OSError as error:
        raise StoreError(
            f"`store.path` must be a folder of our own, got {data_dir} ({error.strerror}); "
            "choose another or change its owner"
        ) from error
