"""One connection to the store process: many calls at once, each answered by its id."""

import asyncio
import contextlib
import itertools
import logging
import os
import signal
import socket
import struct
from collections.abc import Callable, Mapping
from typing import Any

from nearhit.errors import StoreBusy, StoreError
from nearhit.store import wire
from nearhit.store.wire import Frame

log = logging.getLogger(__name__)

_DOUBT_S = 1.0
_CREDENTIALS = struct.Struct("iII")  # of SO_PEERCRED: pid, uid, gid


class Link:
    """A greeted connection. When it breaks, every call in flight fails at once.

    A cancelled call keeps its place until its answer arrives: the process still owes it,
    and a process that hangs must not collect an endless queue of abandoned calls. One that has
    answered nothing for `hung_s` while calls wait is killed: what it acknowledged is safe, and the
    next one answers.
    """

    def __init__(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        max_pending: int,
        on_break: Callable[[], None],
        hung_s: float,
    ) -> None:
        self._reader = reader
        self._writer = writer
        self._max_pending = max_pending
        self._on_break = on_break
        self._hung_s = hung_s
        self._heard_at = 0.0  # when it last answered, or was first asked after that
        self._doubted_at: float | None = None
        self._pending: dict[int, asyncio.Future[Frame]] = {}
        self._ids = itertools.count()
        self._broken = False
        self._reading = asyncio.create_task(self._read())

    @property
    def broken(self) -> bool:
        """Whether the connection is of no more use."""
        return self._broken

    async def call(
        self, header: Mapping[str, Any], vectors: bytes = b"", body: bytes = b""
    ) -> Frame:
        """Send one request and return its answer.

        Raises:
            StoreBusy: Too much is in flight; nothing was sent.
            StoreError: The connection broke, or the store refuses; the message says why.
        """
        if self._broken or self._writer.is_closing():
            raise StoreError("the connection to the store process is gone")
        self._doubt()
        waiting = self._writer.transport.get_write_buffer_size()
        if len(self._pending) >= self._max_pending or waiting >= wire.MAX_FRAME_BYTES:
            raise StoreBusy(
                f"the store must have fewer than {self._max_pending} calls in flight, "
                f"got {len(self._pending)}"
            )
        call = next(self._ids)
        data = wire.encode(Frame({**header, "id": call}, vectors, body))
        answered: asyncio.Future[Frame] = asyncio.get_running_loop().create_future()
        try:
            self._writer.write(data)
        except RuntimeError:  # uvloop's, of a transport that is closed but not yet known to be
            raise StoreError("the connection to the store process is gone") from None
        self._pending[call] = answered
        reply = await answered
        if "error" in reply.header:
            raise StoreError(str(reply.header["error"]))
        return reply

    def _doubt(self) -> None:
        """Kill a process that hangs; it is another one's turn.

        Not at the first look: it may be we who did not run, and its answers wait to be read.
        """
        now = asyncio.get_running_loop().time()
        if not self._pending:
            self._heard_at = now
        if now - self._heard_at < self._hung_s:
            self._doubted_at = None
        elif self._doubted_at is None:
            self._doubted_at = now
        elif now - self._doubted_at >= _DOUBT_S:
            pid = peer_of(self._writer.get_extra_info("socket"))
            log.error(
                "the store process %d has not answered for %.0f s, killing it", pid, self._hung_s
            )
            self._doubted_at = None
            if pid > 1:
                with contextlib.suppress(OSError):
                    os.kill(pid, signal.SIGKILL)

    async def close(self) -> None:
        """Break the connection and wait for its task."""
        self._reading.cancel()
        await asyncio.gather(self._reading, return_exceptions=True)

    async def _read(self) -> None:
        """Hand out answers until the connection ends."""
        try:
            while True:
                reply = await wire.read(self._reader)
                self._heard_at = asyncio.get_running_loop().time()
                answered = self._pending.pop(reply.header.get("id", -1), None)
                if answered is not None and not answered.done():
                    answered.set_result(reply)
        except (OSError, EOFError, StoreError, TypeError):
            pass  # told below to everyone it concerns
        finally:
            self._broken = True
            self._writer.close()
            for answered in self._pending.values():
                if not answered.done():
                    answered.set_exception(StoreError("the store process died during the call"))
            self._pending.clear()
            self._on_break()


def peer_of(connected: socket.socket) -> int:
    """Return the pid at the other end of a Unix socket, as we would name it; 0: it has none here.

    Not what the process says of itself: in another container that is another process's.
    """
    option = getattr(socket, "SO_PEERCRED", None)
    if option is None:
        return 0
    pid, _, _ = _CREDENTIALS.unpack(
        connected.getsockopt(socket.SOL_SOCKET, option, _CREDENTIALS.size)
    )
    return int(pid)
