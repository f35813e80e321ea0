"""Find the store process of a data folder, or start it. Never blocks the event loop."""

import asyncio
import contextlib
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Sequence
from pathlib import Path

from nearhit.errors import StoreError
from nearhit.store.folder import LOG, secure, socket_path

MAX_LOG_BYTES = 2**20


def dial(data_dir: Path) -> socket.socket | None:
    """Return a connected socket; None when nobody listens yet.

    At once, not through the loop: connecting a Unix socket either works or fails, and a
    full backlog reads as "in progress" to asyncio, which would then call it connected.
    """
    dialled = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    dialled.setblocking(False)
    try:
        with socket_path(data_dir) as path:
            dialled.connect(path)
    except (FileNotFoundError, NotADirectoryError, ConnectionRefusedError, BlockingIOError):
        dialled.close()
        return None
    except BaseException:
        dialled.close()
        raise
    return dialled


def start_process(data_dir: Path, options: Sequence[str]) -> asyncio.Future[int]:
    """Start a store process that outlives us; return the future of its exit status.

    A thread of its own starts it and waits for it: starting takes milliseconds, a process
    that nobody waits for stays a zombie, and one worker may live through many.
    """
    loop = asyncio.get_running_loop()
    status: asyncio.Future[int] = loop.create_future()

    def settle(result: int | OSError | StoreError) -> None:
        if status.done():
            return
        if isinstance(result, int):
            status.set_result(result)
        else:
            status.set_exception(StoreError(f"the store process must start: {result}"))
            status.exception()  # whoever waits for it may be gone; that is no news for a log

    def start_and_wait() -> None:
        result: int | OSError | StoreError
        try:
            result = _start(data_dir, options).wait()
        except (OSError, StoreError) as error:
            result = error
        with contextlib.suppress(RuntimeError):  # the loop is closed: nobody asks any more
            loop.call_soon_threadsafe(settle, result)

    threading.Thread(target=start_and_wait, name="nearhit-store", daemon=True).start()
    return status


def _start(data_dir: Path, options: Sequence[str]) -> "subprocess.Popen[bytes]":
    """Execute the store process, its output in the folder's log."""
    secure(data_dir)
    path = data_dir / LOG
    flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND
    if path.exists() and path.stat().st_size > MAX_LOG_BYTES:
        flags |= os.O_TRUNC
    log = os.open(path, flags, 0o600)
    # -P: a `numpy.py` in the proxy's working folder must not be what the process imports.
    command = [sys.executable, "-P", "-m", "nearhit.store.daemon", str(data_dir), *options]
    try:
        return subprocess.Popen(  # noqa: S603 - our own interpreter and module, no shell
            command,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
            close_fds=True,
        )
    finally:
        os.close(log)
