"""Ask all sides the same questions, turn by turn, and keep what came of it.

A turn is as many questions as there are callers, sent at once to one side; then the same to the
next. Which side is first is drawn anew for each turn. What was served from a cache is told by the
calls that reached the model, not by what a side says of itself.
"""

import argparse
import asyncio
import random
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from itertools import cycle, islice
from pathlib import Path
from typing import Any, Final

import httpx
import numpy as np
from tqdm import tqdm

from nearhit.config import Settings
from nearhit.encoder import Unencodable
from nearhit.encoder.artefact import Artefact
from nearhit.encoder.base import Vector
from nearhit.encoder.serving import load_encoder
from nearhit.errors import ConfigError, NearhitError
from nearhit.request import freshness_pattern
from nearhit_eval.peers import Side, Stack
from nearhit_eval.processes import cpu_s, family, resident_mb

QUESTIONS: Final = Path(__file__).parents[2] / "tests" / "data" / "encoder" / "questions.txt"
KINDS: Final = ("exact_hit", "semantic_hit", "semantic_hit_stream", "miss")
STORED: Final = 24
REWORDINGS: Final[tuple[str, ...]] = (
    "Please: {}",
    "{} Thanks!",
    "Hi, {}",
    "{}??",
    "Quick question: {}",
    "Can you tell me: {}",
)
_APART: Final = 0.6  # cosine between any two questions that are asked as different ones
_SETTLE_S: Final = 0.05  # and a hundredth for each caller: what is stored after the answer
_WARM_S: Final = 120.0


@dataclass(slots=True)
class Cell:
    """What one side did with one kind of question from so many callers."""

    took_ms: list[float] = field(default_factory=list)
    first_ms: list[float] = field(default_factory=list)
    rates: list[float] = field(default_factory=list)
    asked: int = 0
    reached_model: int = 0
    cpu_s: float = 0.0
    resident_mb: float = 0.0

    @property
    def hit_share(self) -> float:
        """Share of the questions that the model was not asked."""
        return 1 - self.reached_model / self.asked if self.asked else 0.0


Cells = dict[tuple[str, str, int], Cell]
"""By name of the side, kind and number of callers."""


def measure(
    stack: Stack, settings: Settings, artefact: Artefact, options: argparse.Namespace
) -> Cells:
    """Store, find rewordings that hit, then ask everything of every side.

    Raises:
        ConfigError: There are not as many different questions as are asked for.
        NearhitError: A side answers with an error.
    """
    rng = random.Random(options.seed)  # noqa: S311 - no secret
    count = min(STORED, options.requests)
    needed = count + options.requests * len(options.callers)
    questions = _different(settings, artefact, needed, rng)
    if len(questions) < needed:
        most = (len(questions) - STORED) // len(options.callers)
        raise ConfigError(f"`--requests` must be at most {most} here, got {options.requests}")
    stored, fresh = questions[:count], iter(questions[count:])
    with _Asker(stack, max(options.callers)) as asker:
        reworded = asker.prepare(stored, options.requests)
        texts: Mapping[str, Iterator[str]] = {
            "exact_hit": cycle(stored),
            "semantic_hit": cycle(reworded),
            "semantic_hit_stream": cycle(reworded),
            "miss": fresh,
        }
        turns = [
            (kind, callers)
            for callers in options.callers
            for kind in KINDS
            for _ in range(-(-options.requests // callers))
        ]
        left = dict.fromkeys(turns, options.requests)
        rng.shuffle(turns)
        for kind, callers in tqdm(turns, desc="peers", unit="turn", disable=None):
            count = min(callers, left[kind, callers])
            left[kind, callers] -= count
            asker.turn(kind, callers, list(islice(texts[kind], count)), rng)
    return asker.cells


class _Asker:
    """One HTTP client for all callers, and what has been measured."""

    def __init__(self, stack: Stack, callers: int) -> None:
        self._stack = stack
        self.cells: Cells = {}
        limits = httpx.Limits(max_connections=None, max_keepalive_connections=None)
        self._client = httpx.Client(timeout=60, trust_env=False, limits=limits)
        self._pool = ThreadPoolExecutor(callers)

    def __enter__(self) -> "_Asker":
        return self

    def __exit__(self, *_: object) -> None:
        self._pool.shutdown(cancel_futures=True)
        self._client.close()

    def prepare(self, stored: Sequence[str], most: int) -> list[str]:
        """Let every side store the questions; return so many rewordings that nearhit serves."""
        self._reset()
        for side in self._stack.sides:
            self._warm(side)
            for is_stream in (False, True):  # LiteLLM keeps bodies and streams apart
                for text in stored:
                    self._ask(side, text, is_stream)
        time.sleep(1)
        candidates = [form.format(text.rstrip("?. ")) for form in REWORDINGS for text in stored]
        ours = next((side for side in self._stack.sides if side.name == "nearhit"), None)
        if ours is None:
            return candidates[:most]
        served = (text for text in candidates if self._outcome(ours, text) == "semantic")
        hits = list(islice(served, most))
        if not hits:
            raise NearhitError("nearhit must serve some rewordings, it served none; see its log")
        return hits

    def turn(self, kind: str, callers: int, texts: Sequence[str], rng: random.Random) -> None:
        """Send the questions at once to one side after the other."""
        sides = list(self._stack.sides)
        rng.shuffle(sides)
        for side in sides:
            cell = self.cells.setdefault((side.name, kind, callers), Cell())
            pids = family(side.roots)
            self._reset()
            cpu = cpu_s(pids)
            began = time.perf_counter()
            ask = partial(self._ask, side, is_stream=kind.endswith("stream"))
            found = list(self._pool.map(ask, texts))
            cell.rates.append(len(texts) / (time.perf_counter() - began))
            time.sleep(_SETTLE_S + callers / 100)
            cell.cpu_s += cpu_s(pids) - cpu
            cell.resident_mb = resident_mb(pids)
            cell.asked += len(texts)
            cell.reached_model += self._calls()
            cell.took_ms += [took for took, _ in found]
            cell.first_ms += [first for _, first in found if first is not None]

    def _ask(self, side: Side, text: str, is_stream: bool) -> tuple[float, float | None]:
        """Milliseconds to the last byte and, of a stream, to the first chunk with content."""
        first: float | None = None
        began = time.perf_counter()
        with self._client.stream("POST", **self._request(side, text, is_stream)) as reply:
            if reply.status_code != 200:
                said = reply.read().decode(errors="replace")[:300]
                raise NearhitError(f"{side.name} must answer with 200, got {said}")
            for line in reply.iter_lines():
                if is_stream and first is None and '"content":"' in line.replace('": "', '":"'):
                    first = 1000 * (time.perf_counter() - began)
        return 1000 * (time.perf_counter() - began), first

    def _outcome(self, side: Side, text: str) -> str:
        """How nearhit served a question: `semantic`, `exact`, or why it did not."""
        headers = self._client.request("POST", **self._request(side, text, False)).headers
        return str(headers.get("x-nearhit-kind") or headers.get("x-nearhit-reason"))

    def _warm(self, side: Side) -> None:
        """Ask until the side has all its parts; first requests make clients and load models."""
        end = time.monotonic() + _WARM_S
        for number in range(10_000):
            outcome = self._outcome(side, f"Is this side warm, for the {number}th time?")
            if outcome not in ("no_encoder", "store_failed", "starting", "deadline"):
                if number >= 5:
                    return
            elif time.monotonic() > end:
                raise NearhitError(f"{side.name} must be ready in {_WARM_S:g} s, got {outcome}")
            time.sleep(0.1)

    def _request(self, side: Side, text: str, is_stream: bool) -> dict[str, Any]:
        body: dict[str, Any] = {
            "model": side.model,
            "messages": [{"role": "user", "content": text}],
        }
        return {
            "url": f"{side.url}/v1/chat/completions",
            "json": body | ({"stream": True} if is_stream else {}),
            "headers": {"authorization": f"Bearer {self._stack.key}"},
        }

    def _reset(self) -> None:
        """Forget the model's calls; it answers and streams without a pause."""
        for path, plan in (("reset", {}), ("script", {"pause_s": 0})):
            self._client.post(f"{self._stack.upstream}/control/{path}", json=plan)

    def _calls(self) -> int:
        return int(self._client.get(f"{self._stack.upstream}/control/calls").json()["count"])


def _different(settings: Settings, artefact: Artefact, most: int, rng: random.Random) -> list[str]:
    """Questions of the file that nearhit looks up by meaning, no two of them alike."""
    changing = freshness_pattern(settings.freshness)
    texts = [
        text
        for text in QUESTIONS.read_text("utf-8").splitlines()
        if changing is None or not changing.search(text)
    ]
    rng.shuffle(texts)
    encoder = load_encoder(settings, artefact)
    kept: list[str] = []
    vectors: list[Vector] = []
    for text in texts:
        if len(kept) == most:
            break
        vector = asyncio.run(encoder.encode(text))
        if isinstance(vector, Unencodable):
            continue
        if not vectors or float((np.stack(vectors) @ vector).max()) < _APART:
            kept.append(text)
            vectors.append(vector)
    return kept
