"""Folders that several processes fill at once, and sha256 of files.

A folder is complete or absent: it is filled under another name and renamed. One lock per
parent keeps four proxy workers that start together from building the same thing four times;
the kernel drops it when its holder dies, so nothing is ever left locked.
"""

import fcntl
import hashlib
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_UNFINISHED = ".unfinished-"


def sha256_file(path: Path) -> str:
    """Return the sha256 of a file's bytes as 64 hexadecimal digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@contextmanager
def sole_writer(parent: Path) -> Iterator[None]:
    """Hold the lock of a parent folder, made if absent, and clear what a dead writer left."""
    parent.mkdir(parents=True, exist_ok=True)
    with (parent / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        for leftover in parent.glob(f"{_UNFINISHED}*"):
            shutil.rmtree(leftover, ignore_errors=True)
        yield


@contextmanager
def filled_folder(final: Path) -> Iterator[Path]:
    """Give a temporary folder that takes the place of `final` when the block ends well.

    Call it as the parent's `sole_writer`. What `final` held before is gone afterwards; when the
    block raises, `final` is as it was.
    """
    unfinished = Path(tempfile.mkdtemp(prefix=_UNFINISHED, dir=final.parent))
    try:
        # mkdtemp gives 0o700; another user's process may have to read a shared data folder.
        unfinished.chmod(final.parent.stat().st_mode & 0o777)
        yield unfinished
        if final.exists():
            final.rename(final.parent / f"{_UNFINISHED}{final.name}-replaced")
        unfinished.rename(final)
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)
        shutil.rmtree(final.parent / f"{_UNFINISHED}{final.name}-replaced", ignore_errors=True)
