"""The store process: the one owner of a data folder, reached over its Unix socket.

    python -m nearhit.store.daemon DATA_DIR --dimension 384 [--idle-exit-s 30] [--tick-s 2]

Workers start it (`launch`); nobody else needs to. Whoever gets the lock serves, others
leave with status 0. It outlives the worker that started it and leaves by itself once no
worker has been connected for `--idle-exit-s`, or on SIGTERM, everything on the disk.
One thread: engine calls hold the interpreter lock, so more would only add waiting.
"""

import argparse
import asyncio
import contextlib
import fcntl
import logging
import os
import signal
import socket
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from uuid import UUID

from nearhit.errors import StoreError
from nearhit.store import wire
from nearhit.store.base import MAX_ENTRY_BYTES, Browse, Entry, Search
from nearhit.store.engine import Engine
from nearhit.store.eviction import Bounds
from nearhit.store.folder import LOCK, SCHEMA, SOCKET, secure, socket_path
from nearhit.store.wire import Frame

log = logging.getLogger(__name__)

SAVE_WRITES = 300  # bounds the log (54 MB in 10,000 entries) and what a power cut takes
SAVE_QUIET_S = 60.0
HELLO_TIMEOUT_S = 10.0
STEADY_S = 3600.0  # without a jump of the clock before what it calls expired is deleted
JUMP_S = 60.0  # against the monotonic clock, between two ticks
TEND_PAUSE_S = 0.02  # between batches of 4 ms, so that queries wait for one at most

# Whole entries only, so that the least similar are left out of a reply rather than all.
_REPLY_BYTES = wire.MAX_FRAME_BYTES - MAX_ENTRY_BYTES


@dataclass(frozen=True, slots=True)
class Settings:
    """What the command line says."""

    data_dir: Path
    dimension: int
    idle_exit_s: float
    tick_s: float


class Daemon:
    """Serves one engine to any number of connections until told or left alone."""

    def __init__(self, engine: Engine, settings: Settings) -> None:
        self._engine = engine
        self._settings = settings
        self._stop = asyncio.Event()
        self._full = asyncio.Event()
        self._clients = 0
        self._left_at = time.monotonic()
        self._written_at = time.monotonic()
        self._ahead_s = time.time() - time.monotonic()
        self._unsteady_until = 0.0

    async def run(self, listener: socket.socket) -> None:
        """Serve until SIGTERM, idleness, or a newer worker that nobody else shares us with."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._stop.set)
        server = await asyncio.start_unix_server(self._serve, sock=listener)
        upkeep = asyncio.create_task(self._keep_up())
        upkeep.add_done_callback(lambda _: self._stop.set())  # without it we would never leave
        try:
            await self._stop.wait()
        finally:
            server.close()
            upkeep.cancel()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answer one connection until it ends."""
        counted = False
        try:
            async with asyncio.timeout(HELLO_TIMEOUT_S):
                reply = self._greet(await wire.read(reader))
            writer.write(wire.encode(reply))
            await writer.drain()
            if "error" in reply.header:
                return
            counted = True
            self._clients += 1
            while not self._stop.is_set():
                request = await wire.read(reader)
                writer.write(wire.encode(self._answer(request)))
                await writer.drain()
                await asyncio.sleep(0)  # buffered frames never yield: let the others in
        except (OSError, EOFError, TimeoutError, KeyError, TypeError):
            pass  # no greeting, or the worker is gone, killed or not: what it was told is stored
        except StoreError as error:
            log.warning("connection closed: %s", error)
        finally:
            if counted:
                self._clients -= 1
                self._left_at = time.monotonic()
            writer.close()

    def _greet(self, hello: Frame) -> Frame:
        """Accept a worker of our own kind; make way for another if nobody else is here.

        The bounds of the newest worker that has any hold: a proxy that was started anew has read
        its settings anew, and finds the store process of the one before.
        """
        ours = {
            "protocol": wire.PROTOCOL,
            "schema": SCHEMA,
            "dimension": self._settings.dimension,
        }
        theirs = {name: hello.header.get(name) for name in ours}
        if theirs == ours:
            if hello.header["bounds"] is not None:
                self._engine.bounds = Bounds(**hello.header["bounds"])
                self._full.set()
            return Frame({**ours, "pid": os.getpid()})
        leaving = self._clients == 0
        if leaving:
            self._stop.set()
        message = (
            f"the store process must be of the worker's own version and encoder: process "
            f"{os.getpid()} has {ours}, the worker {theirs}; stop the other proxies on this "
            "data folder or set another `store.path`"
        )
        return Frame({**ours, "pid": os.getpid(), "error": message, "leaving": leaving})

    def _answer(self, request: Frame) -> Frame:
        """Do what one frame asks; whatever happens is an answer."""
        call = request.header.get("id")
        unsaved = self._engine.unsaved
        try:
            reply = answer(self._engine, request)
        except StoreError as error:
            reply = Frame({"error": str(error)})
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            reply = Frame({"error": f"the request was malformed ({type(error).__name__})"})
        if self._engine.unsaved != unsaved:
            self._written_at = time.monotonic()
            if self._engine.is_full:
                self._full.set()
        return Frame({**reply.header, "id": call}, reply.vectors, reply.body)

    async def _keep_up(self) -> None:
        """Every tick, and as soon as a bound is passed: remove what is dead or too much, save.

        Beside the calls, in batches; and leave when idle.
        """
        idle_exit_s, tick_s = self._settings.idle_exit_s, self._settings.tick_s
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(min(tick_s, idle_exit_s / 4)):
                    await self._full.wait()
            self._full.clear()
            try:
                now = self._believed_now()
                while self._engine.tend(now):  # noqa: ASYNC110 - a pause, no poll
                    await asyncio.sleep(TEND_PAUSE_S)
                quiet_s = time.monotonic() - self._written_at
                if self._engine.unsaved >= SAVE_WRITES or quiet_s >= SAVE_QUIET_S:
                    self._engine.save()
            except StoreError as error:
                log.error("upkeep failed: %s", error)
            if not self._clients and time.monotonic() - self._left_at >= idle_exit_s:
                log.info("no worker for %.0f s, leaving", idle_exit_s)
                self._stop.set()

    def _believed_now(self) -> int:
        """Return the time to sweep by: 0, for flushed entries alone, after a jump of the clock.

        A clock that is wrong for a while then deletes nothing: what it calls expired is not served,
        and is there again when it is set right.
        """
        now, ahead_s = time.monotonic(), time.time() - time.monotonic()
        if abs(ahead_s - self._ahead_s) > JUMP_S:
            self._unsteady_until = now + STEADY_S
            log.warning("the clock jumped; what it calls expired is kept for an hour")
        self._ahead_s = ahead_s
        return 0 if now < self._unsteady_until else int(time.time())


def answer(engine: Engine, request: Frame) -> Frame:
    """Do what the frame asks.

    Raises:
        StoreError: The engine refuses or fails.
        KeyError, TypeError, ValueError, AttributeError: The frame is malformed.
    """
    header = request.header
    match header["op"]:
        case "get":
            entry = engine.get(UUID(hex=header["entry"]), header["now"])
            return wire.pack_entries(asdict(engine.era), [entry] if entry else [])
        case "search":
            search = Search(
                scope=header["scope"],
                fingerprint=header["fingerprint"],
                vector=wire.unpack_vector(request.vectors),
                limit=header["limit"],
                now=header["now"],
            )
            found = _fitting(engine.search(search))
            return wire.pack_entries(asdict(engine.era), found)
        case "put":
            return Frame({"stored": [engine.put(entry) for entry in wire.unpack_entries(request)]})
        case "stale":
            after = header["after"]
            page = engine.stale(
                header["fingerprint"],
                None if after is None else UUID(hex=after),
                header["limit"],
                header["now"],
            )
            return wire.pack_entries({"left": page.left}, _fitting(page.entries))
        case "browse":
            listing = engine.browse(_browse(request))
            fitting = _fitting(listing.entries)
            at = listing.next if len(fitting) == len(listing.entries) else fitting[-1].id
            return wire.pack_entries({"next": None if at is None else at.hex}, fitting)
        case "live":
            after = header["after"]
            page = engine.live(
                None if after is None else UUID(hex=after), header["limit"], header["now"]
            )
            return wire.pack_entries({"left": page.left}, _fitting(page.entries))
        case "exchange":
            (entry,) = wire.unpack_entries(request)
            return Frame({"exchanged": engine.exchange(header["signature"], entry)})
        case "touch":
            engine.touch(UUID(hex=header["entry"]), header["hits"], header["now"])
        case "delete":
            engine.delete([UUID(hex=entry_id) for entry_id in header["ids"]])
        case "flush":
            return Frame({"epoch": engine.flush(header["before"])})
        case "epoch":
            return Frame({"epoch": engine.era.epoch})
        case "count":
            return Frame({"count": engine.count()})
        case "stats":
            return Frame({"stats": asdict(engine.stats(os.getpid()))})
        case _:
            raise StoreError("`op` must be one this store process knows")
    return Frame({})


def main(argv: Sequence[str] | None = None) -> int:
    """Serve the folder, or leave when another process does; return the exit status."""
    settings = _parse(argv)
    logging.basicConfig(
        level=logging.INFO, format="%(asctime)s %(process)d %(levelname)s %(message)s"
    )
    os.umask(0o077)
    try:
        secure(settings.data_dir)
        lock = os.open(settings.data_dir / LOCK, os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return 0  # the winner of the race serves; its lock dies with it
        # Bound before the shard loads (up to a second): workers queue instead of retrying.
        with _bind(settings.data_dir) as listener:
            try:
                return _serve_folder(settings, listener)
            finally:
                (settings.data_dir / SOCKET).unlink(missing_ok=True)
    except (StoreError, OSError) as error:
        log.error("the store process cannot serve: %s", error)
        return 1


def _serve_folder(settings: Settings, listener: socket.socket) -> int:
    """Open the engine, serve, close."""
    engine = Engine.open(settings.data_dir, settings.dimension)
    log.info("serving %d points, epoch %d", engine.count(), engine.era.epoch)
    try:
        asyncio.run(_run(engine, settings, listener))
    finally:
        # No socket while the last save runs: a worker then waits for our successor
        # instead of talking to a process that no longer answers.
        with contextlib.suppress(OSError):
            (settings.data_dir / SOCKET).unlink()
        engine.close()
    log.info("left, everything saved")
    return 0


async def _run(engine: Engine, settings: Settings, listener: socket.socket) -> None:
    """Make the daemon inside its loop."""
    await Daemon(engine, settings).run(listener)


def _bind(data_dir: Path) -> socket.socket:
    """A listening socket that only our user can reach; the lock makes a stale file ours."""
    (data_dir / SOCKET).unlink(missing_ok=True)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    before = os.umask(0o177)
    try:
        with socket_path(data_dir) as path:
            listener.bind(path)
        listener.listen(128)
        listener.setblocking(False)
    except OSError:
        listener.close()
        raise
    finally:
        os.umask(before)
    return listener


def _browse(request: Frame) -> Browse:
    """What a frame asks to look for."""
    header, after = request.header, request.header["after"]
    return Browse(
        limit=header["limit"],
        now=header["now"],
        after=None if after is None else UUID(hex=after),
        tenant=header["tenant"],
        contains=header["contains"],
        vector=wire.unpack_vector(request.vectors) if request.vectors else None,
        fingerprint=header["fingerprint"],
    )


def _fitting(entries: Sequence[Entry]) -> list[Entry]:
    """The first entries that fit into one reply."""
    fitting: list[Entry] = []
    size = 0
    for entry in entries:
        # Four bytes a character at most; counting exactly would encode everything twice.
        size += 4 * (len(entry.text) + len(entry.completion)) + 4096
        if size > _REPLY_BYTES and fitting:
            break
        fitting.append(entry)
    return fitting


def _parse(argv: Sequence[str] | None) -> Settings:
    """Settings of a command line."""
    parser = argparse.ArgumentParser(prog="python -m nearhit.store.daemon")
    parser.add_argument("data_dir", type=Path)
    parser.add_argument("--dimension", type=int, required=True)
    parser.add_argument("--idle-exit-s", type=float, default=30.0)
    parser.add_argument("--tick-s", type=float, default=2.0)
    return Settings(**vars(parser.parse_args(argv)))


if __name__ == "__main__":
    sys.exit(main())
