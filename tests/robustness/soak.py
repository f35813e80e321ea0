"""Load LiteLLM with nearhit and LiteLLM alone for a while, and print what drifts.

    python tests/robustness/soak.py                          # `make soak`: 30 minutes
    python tests/robustness/soak.py --minutes 4 --clients 64 --json soak.json

Half of the clients ask the one proxy and half the other, at the same time and the same questions:
a third new, a third repeats to the letter, a third repeats in other words; every other one as a
stream. Errors, throughput and resident memory are therefore of one machine in one run. A callback
in each proxy notes how late its event loop is, ten times a second.

The slope of memory is a line through the samples after the first quarter, which warms up; its
interval is of a bootstrap over blocks of a tenth, since neighbouring samples say the same.
"""

import argparse
import contextlib
import json
import random
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "examples"))
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

import stack
from gateway import Gateway, config_of, running
from nearhit_eval.processes import family, resident_mb
from robustness.stand import ROOT, artefacts, workplace

QUESTIONS: Final = ROOT / "tests" / "data" / "encoder" / "questions.txt"
_EVERY_S: Final = 1.0  # between samples of memory
_BLOCKS: Final = 10
_DRAWS: Final = 2000
_KNOWN: Final = 2000  # questions that are asked again
LAG: Final = '''"""Notes how late the event loop is, in milliseconds, one a line."""

import asyncio
import os
import time
from pathlib import Path

from litellm.integrations.custom_logger import CustomLogger


async def _watch(path):
    with path.open("a", encoding="ascii", buffering=1) as file:
        while True:
            began = time.perf_counter()
            await asyncio.sleep(0.1)
            file.write(f"{1000 * (time.perf_counter() - began - 0.1):.2f}\\n")


class Lag(CustomLogger):
    """Starts with the proxy's loop."""


lag = Lag()
lag.task = asyncio.get_running_loop().create_task(_watch(Path(os.environ["LAG"])))
'''


@dataclass(slots=True)
class Side:
    """One of the two proxies, and what was seen of it."""

    name: str
    answers: int = 0
    errors: Counter[str] = field(default_factory=Counter)
    outcomes: Counter[str] = field(default_factory=Counter)
    memory_mb: list[tuple[float, float]] = field(default_factory=list)  # of the proxy
    store_mb: list[tuple[float, float]] = field(default_factory=list)


def sample(rng: random.Random, fresh: Sequence[str], known: list[str], number: int) -> str:
    """Draw a question: new, to the letter, or in other words."""
    if len(known) < 3 or rng.random() < 1 / 3:
        text = f"{rng.choice(fresh)} Case {number}."
        known.append(text)
        del known[:-_KNOWN]
        return text
    text = rng.choice(known[:-1])
    return text if rng.random() < 0.5 else rng.choice([f"Please: {text}", f"{text} Thanks!"])


def load(
    gateways: dict[str, Gateway], seconds: float, clients: int, seed: int = 1
) -> dict[str, Side]:
    """Ask both proxies at once; return what was seen of each."""
    sides = {name: Side(name) for name in gateways}
    fresh = [line for line in QUESTIONS.read_text("utf-8").splitlines() if line.strip()]
    end = time.monotonic() + seconds
    lock = threading.Lock()

    def client(name: str, which: int) -> None:
        rng, known, number = random.Random(seed * 1000 + which), list[str](), 0
        gateway, side = gateways[name], sides[name]
        while time.monotonic() < end:
            number += 1
            text = sample(rng, fresh, known, number)
            try:
                reply = gateway.ask(text, seed=which, stream=number % 2 == 0)
                good = reply.status == 200 and bool(reply.text) and reply.ended == (number % 2 == 0)
                error = f"status {reply.status}"
                said = reply.kind if reply.outcome == "hit" else reply.outcome
            except Exception as caught:  # noqa: BLE001 - whatever it is, it counts
                good, error = False, type(caught).__name__
            with lock:
                side.answers += good
                if good:
                    side.outcomes[said] += 1
                else:
                    side.errors[error] += 1

    threads = [
        threading.Thread(target=client, args=(name, which))
        for which in range(clients // 2)
        for name in gateways
    ]
    for thread in threads:
        thread.start()
    began = time.monotonic()
    while time.monotonic() < end:
        at = time.monotonic() - began
        for name, gateway in gateways.items():
            pids = family([gateway.server.process.pid])
            daemons = [pid for pid in pids if _is_store(pid)]
            proxies = [pid for pid in pids if pid not in daemons]
            sides[name].memory_mb.append((at, resident_mb(proxies)))
            sides[name].store_mb.append((at, resident_mb(daemons)))
        time.sleep(_EVERY_S)
    for thread in threads:
        thread.join()
    return sides


def _is_store(pid: int) -> bool:
    with contextlib.suppress(OSError):
        return b"nearhit.store.daemon" in Path(f"/proc/{pid}/cmdline").read_bytes()
    return False


def slope(samples: Sequence[tuple[float, float]], seed: int = 1) -> tuple[float, float, float]:
    """Return MB a minute, and its 95 % interval by a bootstrap over blocks; NaN of too few."""
    points = np.array(samples, float)
    points = points[len(points) // 4 :]
    if len(points) < 2 * _BLOCKS:
        return float("nan"), float("nan"), float("nan")
    blocks = np.array_split(points, _BLOCKS)
    rng = np.random.default_rng(seed)
    drawn = [
        _line(np.concatenate([blocks[i] for i in rng.integers(0, _BLOCKS, _BLOCKS)]))
        for _ in range(_DRAWS)
    ]
    low, high = np.nanpercentile(drawn, [2.5, 97.5])
    return _line(points), float(low), float(high)


def _line(points: NDArray[np.float64]) -> float:
    at = points[:, 0] - points[:, 0].mean()
    spread = float(at @ at)
    return 60 * float(at @ points[:, 1]) / spread if spread else float("nan")


@contextlib.contextmanager
def both(folder: Path, built: Path) -> Iterator[dict[str, Gateway]]:
    """Run a model, a proxy with nearhit and one without, each with the callback that notes lag."""
    import os

    with stack.upstream(folder) as model, contextlib.ExitStack() as until_the_end:
        found = {}
        for name, nearhit in (("nearhit", {"deadline_ms": 1000}), ("LiteLLM alone", None)):
            place = folder / name.split()[0].lower()
            place.mkdir()
            (place / "lag.py").write_text(LAG, "utf-8")
            callbacks = ["lag.lag", *(["nearhit.hook.proxy_hook"] if nearhit is not None else [])]
            config = config_of(
                model.url,
                nearhit=nearhit,
                litellm_settings={"callbacks": callbacks, "num_retries": 0},
            )
            os.environ["LAG"] = str(place / "lag.txt")
            found[name] = until_the_end.enter_context(running(place, config, built))
        del os.environ["LAG"]
        yield found


def report(
    sides: dict[str, Side], lags: dict[str, list[float]], seconds: float, console: Console
) -> dict[str, Any]:
    """Print the table; return its figures."""
    figures: dict[str, Any] = {}
    for name, side in sides.items():
        lag = lags.get(name) or [float("nan")]
        figures[name] = {
            "answers": side.answers,
            "errors": dict(side.errors),
            "answers_a_second": side.answers / seconds,
            "outcomes": dict(side.outcomes),
            "memory_mb": [side.memory_mb[0][1], side.memory_mb[-1][1]],
            "memory_mb_a_minute": slope(side.memory_mb),
            "store_mb": [side.store_mb[0][1], side.store_mb[-1][1]],
            "store_mb_a_minute": slope(side.store_mb),
            "lag_ms_p50_p99_max": [float(v) for v in np.percentile(lag, [50, 99, 100])],
        }
    table = Table("", *figures)

    def row(name: str, value: Any) -> None:
        table.add_row(name, *(value(one) for one in figures.values()))

    row("answers", lambda one: str(one["answers"]))
    row("errors", lambda one: str(sum(one["errors"].values())))
    row("answers a second", lambda one: f"{one['answers_a_second']:.1f}")
    row("what they were", lambda one: ", ".join(f"{n} {c}" for n, c in one["outcomes"].items()))
    row("proxy, MB at first and last", lambda one: _pair(one["memory_mb"]))
    row("proxy, MB a minute", lambda one: _interval(one["memory_mb_a_minute"]))
    row("store process, MB at first and last", lambda one: _pair(one["store_mb"]))
    row("store process, MB a minute", lambda one: _interval(one["store_mb_a_minute"]))
    row("event loop late, ms: p50, p99, most", lambda one: _three(one["lag_ms_p50_p99_max"]))
    console.print(table)
    ours, alone = (one["answers_a_second"] for one in figures.values())
    console.print(f"throughput of nearhit to LiteLLM alone, in the same run: {ours / alone:.2f}")
    return figures


def _pair(values: Sequence[float]) -> str:
    return f"{values[0]:.0f}, {values[1]:.0f}"


def _interval(values: Sequence[float]) -> str:
    return f"{values[0]:+.2f} ({values[1]:+.2f} to {values[2]:+.2f})"


def _three(values: Sequence[float]) -> str:
    return ", ".join(f"{value:.1f}" for value in values)


def main(argv: Sequence[str] | None = None) -> int:
    """Print the table; return 1 if nearhit refuses what LiteLLM alone does not."""
    assert __doc__ is not None
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--minutes", type=float, default=30.0)
    parser.add_argument("--clients", type=int, default=64)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--json", type=Path, help="write the figures there too")
    options = parser.parse_args(argv)
    seconds = 60 * options.minutes
    with workplace() as folder, both(folder, artefacts()) as gateways:
        sides = load(gateways, seconds, options.clients, options.seed)
        lags = {
            name: [float(line) for line in (gateway.folder / "lag.txt").read_text().split()]
            for name, gateway in gateways.items()
            if (gateway.folder / "lag.txt").exists()
        }
    console = Console(width=None if sys.stdout.isatty() else 130)
    figures = report(sides, lags, seconds, console)
    if options.json:
        options.json.write_text(json.dumps(figures, indent=2), "utf-8")
    ours, alone = (sum(side.errors.values()) for side in sides.values())
    return int(ours > alone)


if __name__ == "__main__":
    sys.exit(main())
