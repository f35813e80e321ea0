"""One connection to the store process: many calls at once, each answered by its id."""

import asyncio
import itertools
from collections.abc import Callable, Mapping
from typing import Any

from nearhit.errors import StoreBusy, StoreError
from nearhit.store import wire
from nearhit.store.wire import Frame


class Link:
    """A greeted connection. When it breaks, every call in flight fails at once.

    A cancelled call keeps its place until its answer arrives: the process still owes it,
    and a process that hangs must not collect an endless queue of abandoned calls.
    """

    def __init__(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        max_pending: int,
        on_break: Callable[[], None],
    ) -> None:
        self._reader = reader
        self._writer = writer
        self._max_pending = max_pending
        self._on_break = on_break
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
        if self._broken:
            raise StoreError("the connection to the store process is gone")
        waiting = self._writer.transport.get_write_buffer_size()
        if len(self._pending) >= self._max_pending or waiting >= wire.MAX_FRAME_BYTES:
            raise StoreBusy(
                f"the store must have fewer than {self._max_pending} calls in flight, "
                f"got {len(self._pending)}"
            )
        call = next(self._ids)
        data = wire.encode(Frame({**header, "id": call}, vectors, body))
        answered: asyncio.Future[Frame] = asyncio.get_running_loop().create_future()
        self._pending[call] = answered
        self._writer.write(data)
        reply = await answered
        if "error" in reply.header:
            raise StoreError(str(reply.header["error"]))
        return reply

    async def close(self) -> None:
        """Break the connection and wait for its task."""
        self._reading.cancel()
        await asyncio.gather(self._reading, return_exceptions=True)

    async def _read(self) -> None:
        """Hand out answers until the connection ends."""
        try:
            while True:
                reply = await wire.read(self._reader)
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
