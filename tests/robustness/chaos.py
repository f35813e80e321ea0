"""Kill the proxy and its store process at random moments under load, and count what is lost.

    python tests/robustness/chaos.py                       # `make chaos`: 200 kills
    python tests/robustness/chaos.py --kills 20 --proxies 0.2 --seed 3 --json chaos.json

Four callers learn new answers all the time; one that was served from the store by its exact text is
acknowledged. A share of the kills takes the proxy with all that it started but the store process,
which lives in a session of its own; the others take the store process. After some of them
everything is flushed. At the end, and after every tenth kill, each acknowledged answer must be
served, to the letter as it was given, and no flushed one may be.
"""

import argparse
import contextlib
import json
import os
import random
import signal
import statistics
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Final

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "examples"))
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import httpx
from rich.console import Console
from rich.table import Table

from robustness.stand import MARK, Stand, stand, wait_until_gone

CALLERS: Final = 4
CHECK_EVERY: Final = 10
CHECKED: Final = 200  # acknowledged answers that one check asks for; the last asks for all
FLUSH_EVERY: Final = 15
COMES_BACK_S: Final = 60.0
# Misses of a proxy or store that has just been started; any other says that nothing is there.
NOT_YET: Final = ("store_failed", "store_busy", "deadline", "no_encoder", "encoder_busy")


@dataclass(slots=True)
class Count:
    """What is printed."""

    kills_of_store: int = 0
    kills_of_proxy: int = 0
    acknowledged: int = 0
    checked: int = 0
    lost: int = 0
    corrupt: int = 0
    flushes: int = 0
    flushed: int = 0
    flushed_back: int = 0
    refused: int = 0  # by a living proxy
    store_starts_s: list[float] = field(default_factory=list)

    @property
    def is_good(self) -> bool:
        """Whether nothing is lost, wrong or back."""
        return not (self.lost or self.corrupt or self.flushed_back or self.refused)


class Callers:
    """Learn new answers until told to stop; know which were acknowledged."""

    def __init__(self, on: Stand, count: Count) -> None:
        self.on = on
        self.count = count
        self.acknowledged: dict[int, str] = {}  # number: the answer
        self.next = 0
        self.lock = threading.Lock()
        self.paused = threading.Event()
        self.ended = threading.Event()
        self.busy = threading.Semaphore(CALLERS)
        self.threads = [threading.Thread(target=self._learn) for _ in range(CALLERS)]

    def _learn(self) -> None:
        while not self.ended.is_set():
            if self.paused.is_set():
                time.sleep(0.01)
                continue
            with self.busy:
                with self.lock:
                    number, self.next = self.next, self.next + 1
                # What a proxy that is being killed does to its clients.
                with contextlib.suppress(httpx.HTTPError, RuntimeError, LookupError, ValueError):
                    self._learn_one(number)

    def _learn_one(self, number: int) -> None:
        gateway = self.on.gateway
        first = gateway.ask(question(number), seed=number)
        if first.status != 200:
            self.count.refused += 1
        for _ in range(20):
            again = gateway.ask(question(number), seed=number)
            if again.kind == "exact":
                with self.lock:
                    self.acknowledged[number] = again.text
                return
            time.sleep(0.02)

    @contextlib.contextmanager
    def pausing(self) -> Iterator[None]:
        """Hold the callers still."""
        self.paused.set()
        for _ in range(CALLERS):
            self.busy.acquire()
        try:
            yield
        finally:
            self.paused.clear()
            self.busy.release(CALLERS)


def question(number: int) -> str:
    """Return the text of a question."""
    return f"What do {MARK} say of number {number}?"


def check(on: Stand, count: Count, wanted: dict[int, str], rng: random.Random, most: int) -> None:
    """Ask for acknowledged answers: each must be there, and be what it was."""
    chosen = rng.sample(sorted(wanted), min(most, len(wanted)))
    for number in chosen:
        end = time.monotonic() + COMES_BACK_S
        while True:
            reply = on.gateway.ask(question(number), seed=number)
            is_there = reply.kind == "exact"
            is_known = is_there or (reply.outcome == "miss" and reply.reason not in NOT_YET)
            if is_known or time.monotonic() > end:
                break
            time.sleep(0.05)
        count.checked += 1
        if reply.kind != "exact":
            count.lost += 1
        elif reply.text != wanted[number] or f"number {number}?" not in reply.text:
            count.corrupt += 1


def flush_all(on: Stand, count: Count, callers: Callers, rng: random.Random) -> None:
    """Flush everything; none of what was acknowledged may be served afterwards."""
    with callers.pausing():
        old = dict(callers.acknowledged)
        headers = {"authorization": "Bearer sk-admin"}
        end = time.monotonic() + COMES_BACK_S
        while True:
            got = on.gateway.client.post("/nearhit/flush", json={"all": True}, headers=headers)
            if got.status_code == 200:
                break
            assert time.monotonic() < end, got.text
            time.sleep(0.2)
        callers.acknowledged.clear()
        count.flushes += 1
        count.flushed += len(old)
        kill_store(on, count)  # what counts is what is on the disk
        for number in rng.sample(sorted(old), min(40, len(old))):
            reply = on.gateway.ask(question(number), seed=number)
            count.flushed_back += reply.kind == "exact" and reply.text == old[number]


def kill_store(on: Stand, count: Count) -> None:
    """Kill the store process; note how long it takes until another one serves."""
    pid = on.store_pid()
    if pid is None:
        return
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)
    wait_until_gone(pid)
    count.kills_of_store += 1
    began, log = time.monotonic(), on.data / "store.log"
    before = log.stat().st_size if log.exists() else 0
    started = None
    while time.monotonic() < began + COMES_BACK_S:
        with contextlib.suppress(httpx.HTTPError):
            on.gateway.ask("Is the store back?", key="sk-dave")
        if started is None and on.store_pid() is not None:
            started = time.monotonic()
        text = log.read_bytes()[before:] if log.exists() else b""
        if started is not None and b"serving" in text:
            count.store_starts_s.append(time.monotonic() - started)
            return
        time.sleep(0.01)


def kill_proxy(on: Stand, count: Count) -> None:
    """Kill the proxy and start it again on the same folder."""
    os.killpg(on.gateway.server.process.pid, signal.SIGKILL)
    count.kills_of_proxy += 1
    on.restart()


def run(kills: int, proxies: float, seed: int, built: Path | None = None) -> Count:
    """Kill so often on a stand of its own; return the counts."""
    with stand(built) as on:
        on.start()
        return run_on(on, kills, proxies, seed)


def run_on(
    on: Stand,
    kills: int,
    proxies: float,
    seed: int,
    *,
    longest_s: float = 2.0,
    flush_every: int = FLUSH_EVERY,
) -> Count:
    """Kill so often on this stand; return the counts."""
    rng, count = random.Random(seed), Count()
    callers = Callers(on, count)
    for thread in callers.threads:
        thread.start()
    try:
        for kill in range(1, kills + 1):
            time.sleep(rng.uniform(0.05, longest_s))
            if rng.random() < proxies:
                kill_proxy(on, count)
            else:
                kill_store(on, count)
            if kill % flush_every == 0:
                count.acknowledged += len(callers.acknowledged)
                flush_all(on, count, callers, rng)
            elif kill % CHECK_EVERY == 0:
                with callers.pausing():
                    check(on, count, callers.acknowledged, rng, CHECKED)
            if kill % CHECK_EVERY == 0:
                print(f"{kill} kills, {len(callers.acknowledged)} known", file=sys.stderr)
        end = time.monotonic() + COMES_BACK_S
        while not callers.acknowledged and time.monotonic() < end:
            time.sleep(0.1)
    finally:
        callers.ended.set()
        for thread in callers.threads:
            thread.join()
    count.acknowledged += len(callers.acknowledged)
    check(on, count, callers.acknowledged, rng, len(callers.acknowledged))
    return count


def show(count: Count, console: Console) -> None:
    """Print the table."""
    table = Table("what", "count")
    for name, value in asdict(count).items():
        if name != "store_starts_s":
            table.add_row(name.replace("_", " "), str(value))
    starts = sorted(count.store_starts_s)
    if starts:
        table.add_row("start of the store process, median s", f"{statistics.median(starts):.2f}")
        table.add_row("the slowest of them, s", f"{starts[-1]:.2f}")
    console.print(table)


def main(argv: Sequence[str] | None = None) -> int:
    """Print the table; return 1 if anything is lost, corrupt or back."""
    assert __doc__ is not None
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--proxies", type=float, default=0.1, help="share of them, 0 to 1")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--json", type=Path, help="write the counts there too")
    options = parser.parse_args(argv)
    count = run(options.kills, options.proxies, options.seed)
    show(count, Console(width=None if sys.stdout.isatty() else 100))
    if options.json:
        options.json.write_text(json.dumps(asdict(count), indent=2), "utf-8")
    return int(not count.is_good)


if __name__ == "__main__":
    sys.exit(main())
