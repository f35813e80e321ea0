"""Break things under a proxy that is being asked, and print what became of its clients and answers.

    python tests/robustness/faults.py                                        # `make faults`
    python tests/robustness/faults.py --only "journal" "clock" --seconds 3 --json faults.json

For each fault: ten questions are learnt, then four callers ask them and new ones, bodies and
streams, while the fault lasts; it ends, and the ten must be served from the store again. Lost is
what is not within 30 s. A fault that heals is one after which nobody had to do anything but take
its cause away. Mounts are private to a namespace of their own where this is run as root; elsewhere
the two faults that need one are left out, and said to be.
"""

import argparse
import contextlib
import ctypes
import json
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "examples"))
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from rich.console import Console
from rich.table import Table

from robustness.stand import MARK, Stand, stand, wait_until_gone

LEARNT: Final = 10
CALLERS: Final = 4
HEALS_S: Final = 30.0
CLOCK: Final = Path(__file__).resolve().parent / "clock"
_CLONE_NEWNS: Final = 0x00020000
_PRIVATE: Final = 1 << 18 | 1 << 14  # MS_PRIVATE | MS_REC


@dataclass(frozen=True, slots=True)
class Fault:
    """What is broken: a context manager that breaks it and takes the cause away again.

    Attributes:
        name: of the row.
        breaking: within it the fault lasts; it may stop and start the proxy.
        is_forgetting: whether the answers learnt before may be gone: they cannot be used.
        needs_mount: whether it must be root.
    """

    name: str
    breaking: Callable[[Stand], contextlib.AbstractContextManager[None]]
    is_forgetting: bool = False
    needs_mount: bool = False


@dataclass(slots=True)
class Row:
    """What became of one fault."""

    fault: str
    answers: int = 0
    errors: list[str] = field(default_factory=list)
    outcomes: dict[str, int] = field(default_factory=dict)
    slowest_ms: float = 0.0
    lost: int = 0
    healed_s: float | None = None
    counted: dict[str, int] = field(default_factory=dict)
    note: str = ""

    @property
    def is_good(self) -> bool:
        """Whether nobody was refused, nothing lost, and all was well again."""
        return not self.errors and not self.lost and self.healed_s is not None and not self.note


# ---- the faults ----------------------------------------------------------------------------


@contextlib.contextmanager
def store_killed(on: Stand) -> Iterator[None]:
    """Kill the store process three times, a second apart."""
    with _meanwhile(lambda: _kill_stores(on, 3)):
        yield


@contextlib.contextmanager
def store_hung(on: Stand) -> Iterator[None]:
    """Stop the store process, and let it go on at the end."""
    pid = on.store_pid()
    assert pid is not None
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGCONT)


@contextlib.contextmanager
def store_hung_for_good(on: Stand) -> Iterator[None]:
    """Stop the store process and leave it so."""
    pid = on.store_pid()
    assert pid is not None
    os.kill(pid, signal.SIGSTOP)
    yield


@contextlib.contextmanager
def disk_full(on: Stand) -> Iterator[None]:
    """Fill the file system of the data folder to the last block while the proxy runs."""
    with _filled(on.data):
        yield


@contextlib.contextmanager
def disk_full_at_start(on: Stand) -> Iterator[None]:
    """Start on a full file system."""
    on.stop()
    with _filled(on.data):
        on.start(is_warm=False)
        yield


@contextlib.contextmanager
def file_size_limit(on: Stand) -> Iterator[None]:
    """Let no file of the store process grow, as on a full disk."""
    import resource

    pid = on.store_pid()
    assert pid is not None
    before = resource.prlimit(pid, resource.RLIMIT_FSIZE, (1024, resource.RLIM_INFINITY))
    try:
        yield
    finally:
        with contextlib.suppress(ProcessLookupError):
            resource.prlimit(pid, resource.RLIMIT_FSIZE, before)


@contextlib.contextmanager
def read_only(on: Stand) -> Iterator[None]:
    """Start on a data folder that is mounted read-only; it is writable again at the end."""
    on.stop()
    subprocess.run(["mount", "--bind", on.data, on.data], check=True)
    subprocess.run(["mount", "-o", "remount,bind,ro", on.data], check=True)
    try:
        on.start(is_warm=False)
        yield
    finally:
        subprocess.run(["mount", "-o", "remount,bind,rw", on.data], check=True)


@contextlib.contextmanager
def older_schema(on: Stand) -> Iterator[None]:
    """Start on a store that says it is of an older version."""
    on.stop()
    meta = on.data / "store" / "meta.json"
    meta.write_text(json.dumps({**json.loads(meta.read_text()), "schema": 0}))
    on.start()
    yield
    assert (on.data / "store.schema-0.bak").is_dir(), "the older store is gone"


def clock_jumps(seconds: float) -> Callable[[Stand], contextlib.AbstractContextManager[None]]:
    """Set the clock of proxy and store process by so many seconds, and right again."""

    @contextlib.contextmanager
    def jump(on: Stand) -> Iterator[None]:
        (on.folder / "clock").write_text(str(seconds))
        try:
            yield
        finally:
            (on.folder / "clock").write_text("0")

    return jump


@contextlib.contextmanager
def flush_under_a_wrong_clock(on: Stand) -> Iterator[None]:
    """Flush a model while the clock is ten days ahead, then set it right."""
    with clock_jumps(864_000)(on):
        flush(on, model="gpt-4o-mini")
        yield


@contextlib.contextmanager
def artefact_truncated(on: Stand) -> Iterator[None]:
    """Start with half an encoder; it is built again from the base."""
    on.stop()
    _own_artefacts(on)
    for path in (on.data / "artefacts").glob("*/encoder.onnx"):
        os.truncate(path, path.stat().st_size // 2)
    on.start(is_warm=False)
    yield


@contextlib.contextmanager
def artefact_truncated_under_way(on: Stand) -> Iterator[None]:
    """Truncate the encoder's files while they serve."""
    on.stop()
    _own_artefacts(on)
    on.start()
    for path in (on.data / "artefacts").glob("*/*"):
        if path.is_file():
            os.truncate(path, path.stat().st_size // 2)
    yield


@contextlib.contextmanager
def journal_locked(on: Stand) -> Iterator[None]:
    """Hold a lock on the journal that lets nobody else read or write."""
    before = sum(row["requests"] for row in _stats(on)["tally"])
    with contextlib.closing(sqlite3.connect(on.data / "evidence.sqlite3", timeout=30)) as db:
        db.isolation_level = None
        db.execute("BEGIN EXCLUSIVE")
        yield
        db.execute("ROLLBACK")
    end = time.monotonic() + HEALS_S
    while sum(row["requests"] for row in _stats(on)["tally"]) <= before:
        assert time.monotonic() < end, "what was counted meanwhile is lost"
        time.sleep(0.2)


@contextlib.contextmanager
def journal_damaged(on: Stand) -> Iterator[None]:
    """Overwrite the journal's pages while it is in use."""
    for name in ("evidence.sqlite3", "evidence.sqlite3-wal"):
        path = on.data / name
        if path.exists():
            with path.open("r+b") as file:
                file.seek(100)
                file.write(b"\xff" * max(0, path.stat().st_size - 100))
    yield


@contextlib.contextmanager
def journal_no_database(on: Stand) -> Iterator[None]:
    """Start with a journal that is no database."""
    on.stop()
    (on.data / "evidence.sqlite3").write_bytes(b"no database, but long enough for one" * 99)
    on.start()
    yield
    assert (on.data / "evidence.sqlite3.damaged.bak").exists(), "the damaged journal is gone"


@contextlib.contextmanager
def two_at_once(on: Stand) -> Iterator[None]:
    """Start two proxies at once on one new folder; the second one is asked, too."""
    on.stop()
    for path in on.data.iterdir():  # it may be a mount
        shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()
    other = Stand(on.folder.with_name("second"), on.model, on.built)
    other.data.symlink_to(on.data)
    try:
        with _meanwhile(other.start):
            on.start()
        _learn(on, "together", 900)
        for number in range(LEARNT):
            reply = other.gateway.ask(_question("together", number), seed=900 + number)
            assert reply.kind == "exact", f"the other proxy missed: {reply.headers}"
        yield
    finally:
        other._running.close()


FAULTS: Final = (
    Fault("store process killed, three times", store_killed),
    Fault("store process hung, then continued", store_hung),
    Fault("store process hung for good", store_hung_for_good),
    Fault("disk full while serving", disk_full, needs_mount=True),
    Fault("disk full at the start", disk_full_at_start, needs_mount=True),
    Fault("store's files cannot grow", file_size_limit),
    Fault("data folder read-only at the start", read_only, needs_mount=True),
    Fault("clock ten days ahead, then right", clock_jumps(864_000)),
    Fault("clock a day behind, then right", clock_jumps(-86_400)),
    Fault("flush of a model under a wrong clock", flush_under_a_wrong_clock, is_forgetting=True),
    Fault("journal locked", journal_locked),
    Fault("journal damaged while serving", journal_damaged),
    Fault("journal no database at the start", journal_no_database),
    Fault("encoder truncated while serving", artefact_truncated_under_way),
    Fault("encoder truncated at the start", artefact_truncated),
    Fault("store of an older schema", older_schema, is_forgetting=True),
    Fault("two proxies started at once", two_at_once, is_forgetting=True),
)


# ---- asking --------------------------------------------------------------------------------


def try_out(fault: Fault, on: Stand, seconds: float) -> Row:
    """Learn, break, ask, mend, and look what is left."""
    row = Row(fault.name)
    learnt, first = _learn(on, fault.name), 0
    counted = on.faults()
    try:
        with fault.breaking(on):
            _ask_for(on, row, fault.name, seconds)
            counted = {} if sum(on.faults().values()) < sum(counted.values()) else counted
    except AssertionError as error:
        row.note = str(error)
    began = time.monotonic()
    if fault.is_forgetting:
        first = 500
        learnt = _learn(on, f"{fault.name} anew", first)
    missing = set(range(LEARNT))
    while missing and time.monotonic() < began + HEALS_S:
        missing = {
            number
            for number in missing
            if on.gateway.ask(learnt[number], seed=first + number).kind != "exact"
        }
    row.lost = len(missing)
    if not missing:
        row.healed_s = time.monotonic() - began
    now = on.faults()
    row.counted = {n: now[n] - counted.get(n, 0) for n in now if now[n] > counted.get(n, 0)}
    unforeseen = {name for name in row.counted if name == "lookup error" or name.startswith("hook")}
    if unforeseen:
        row.note = next(
            (line for line in on.logged().splitlines() if "(error, " in line), str(unforeseen)
        )
    if MARK in on.logged():
        row.note = "a log holds a prompt"
    if "/nearhit/" in "".join(part for part in on.logged().split("Traceback")[1:]):
        row.note = "an exception of nearhit in the log"
    return row


def _question(about: str, number: int) -> str:
    return f"How do {MARK} of {about} practise piece {number}?"


def _learn(on: Stand, about: str, first: int = 0) -> list[str]:
    questions = [_question(about, number) for number in range(LEARNT)]
    for number, question in enumerate(questions):
        on.gateway.learn(
            question, seed=first + number
        )  # a scope each: none is another in other words
    return questions


def _ask_for(on: Stand, row: Row, about: str, seconds: float) -> None:
    """Ask what is known and what is new, as bodies and streams, with `CALLERS` at once."""
    lock, end = threading.Lock(), time.monotonic() + seconds
    outcomes: Counter[str] = Counter()

    def ask(caller: int) -> None:
        number = 0
        while time.monotonic() < end:
            number += 1
            known = number % 2 == 0
            piece = number % LEARNT
            text = _question(about if known else f"{about} new {caller}", piece)
            began = time.monotonic()
            try:
                seed = piece if known else LEARNT + number
                reply = on.gateway.ask(text, seed=seed, stream=number % 3 == 0)
                ok = reply.status == 200 and bool(reply.text)
                said = reply.kind if reply.outcome == "hit" else f"{reply.outcome} {reply.reason}"
            except Exception as error:  # noqa: BLE001 - whatever it is, it counts
                ok, said = False, type(error).__name__
            took_ms = 1000 * (time.monotonic() - began)
            with lock:
                row.answers += ok
                row.slowest_ms = max(row.slowest_ms, took_ms)
                outcomes[said] += 1
                if not ok:
                    row.errors.append(said)

    callers = [threading.Thread(target=ask, args=(number,)) for number in range(CALLERS)]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join()
    row.outcomes = dict(outcomes.most_common())


def flush(on: Stand, **what: str) -> None:
    """Flush as an admin."""
    got = on.gateway.client.post(
        "/nearhit/flush", json=what, headers={"authorization": "Bearer sk-admin"}
    )
    assert got.status_code == 200, got.text


def _stats(on: Stand) -> Any:
    end = time.monotonic() + HEALS_S
    while True:
        got = on.gateway.client.get("/nearhit/stats", headers={"authorization": "Bearer sk-admin"})
        if got.status_code == 200:
            return got.json()
        assert got.status_code == 503, got.text
        assert time.monotonic() < end, got.text
        time.sleep(0.2)


# ---- breaking ------------------------------------------------------------------------------


@contextlib.contextmanager
def _meanwhile(work: Callable[[], Any]) -> Iterator[None]:
    thread = threading.Thread(target=work)
    thread.start()
    try:
        yield
    finally:
        thread.join()


def _kill_stores(on: Stand, times: int) -> None:
    for _ in range(times):
        pid = on.store_pid()
        if pid is not None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
            wait_until_gone(pid)
        time.sleep(1)


@contextlib.contextmanager
def _filled(folder: Path) -> Iterator[None]:
    """Fill a file system."""
    filler = folder / "filler"
    with filler.open("wb", buffering=0) as file:
        for size in (2**20, 4096, 1):
            with contextlib.suppress(OSError):
                while True:
                    file.write(b"x" * size)
    try:
        yield
    finally:
        filler.unlink()


def _own_artefacts(on: Stand) -> None:
    """Give the folder artefacts of its own, and the base to build them from."""
    link = on.data / "artefacts"
    if link.is_symlink():
        link.unlink()
        shutil.copytree(on.built, link)
        base = on.built.parent / "base"
        if base.exists() and not (on.data / "base").exists():
            (on.data / "base").symlink_to(base)


def can_mount() -> bool:
    """Enter a namespace of mounts of our own; tell whether that went."""
    if os.geteuid() != 0:
        return False
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.unshare(_CLONE_NEWNS) != 0:
        return False
    return bool(libc.mount(b"none", b"/", None, _PRIVATE, None) == 0)


# ---- the table -----------------------------------------------------------------------------


def show(rows: Sequence[Row], console: Console) -> None:
    """Print the table."""
    table = Table("fault", "what clients saw", "lost", "healed in", "nearhit_faults_total")
    for row in rows:
        saw = f"{row.answers} answers, {len(row.errors)} errors, slowest {row.slowest_ms:.0f} ms: "
        saw += ", ".join(f"{name} {count}" for name, count in row.outcomes.items())
        healed = "NOT" if row.healed_s is None else f"{row.healed_s:.1f} s"
        counted = ", ".join(f"{name} {count}" for name, count in row.counted.items()) or "-"
        table.add_row(row.fault, saw, str(row.lost), healed, counted)
        if row.note:
            table.add_row("", f"BAD: {row.note}", "", "", "")
    console.print(table)


def run(faults: Sequence[Fault], seconds: float, built: Path | None = None) -> list[Row]:
    """Try faults out one after the other on one stand."""
    rows = []
    mounts = can_mount()
    with stand(built) as on, contextlib.ExitStack() as until_the_end:
        environ = {
            "CLOCK_FILE": str(on.folder / "clock"),
            "PYTHONPATH": f"{CLOCK}{os.pathsep}{os.environ.get('PYTHONPATH', '')}",
        }
        before = {name: os.environ.get(name) for name in environ}
        os.environ.update(environ)
        until_the_end.callback(_restore, before)
        if mounts:
            on.data.mkdir(mode=0o700)
            size = ["-o", "size=256m,mode=700"]
            subprocess.run(["mount", "-t", "tmpfs", *size, "nearhit", on.data], check=True)
            until_the_end.callback(lambda: subprocess.run(["umount", "-l", on.data], check=False))
        on.start()
        for fault in faults:
            if fault.needs_mount and not mounts:
                print(f"left out, as it takes root: {fault.name}", file=sys.stderr)
                continue
            print(fault.name, file=sys.stderr)
            rows.append(try_out(fault, on, seconds))
        on.stop()
    return rows


def _restore(environ: dict[str, str | None]) -> None:
    for name, value in environ.items():
        if value is None:
            os.environ.pop(name, None)
        else:
            os.environ[name] = value


def main(argv: Sequence[str] | None = None) -> int:
    """Print the table; return 1 if a row of it is bad."""
    assert __doc__ is not None
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", nargs="*", default=[""], help="faults whose names contain these")
    parser.add_argument("--seconds", type=float, default=6.0, help="that each fault lasts")
    parser.add_argument("--json", type=Path, help="write the table there too")
    options = parser.parse_args(argv)
    chosen = [fault for fault in FAULTS if any(part in fault.name for part in options.only)]
    rows = run(chosen, options.seconds)
    show(rows, Console(width=None if sys.stdout.isatty() else 160))
    if options.json:
        options.json.write_text(json.dumps([asdict(row) for row in rows], indent=2), "utf-8")
    return int(not all(row.is_good for row in rows))


if __name__ == "__main__":
    sys.exit(main())
