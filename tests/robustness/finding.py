"""What a fuzzer found: shared by those of the request path and of the routes."""

import re
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import takewhile
from typing import Final, TypeVar

import numpy as np
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st

from gateway import Gateway
from robustness.stand import MARK

ENOUGH: Final = 5  # wrong answers, after which a target is left
# Whatever fails under a route comes through `intake`: that says nothing yet.
_OURS: Final = re.compile(r"(?:plugin|site-packages)/nearhit/(?!intake\.py)")
_Example = TypeVar("_Example")


@dataclass(slots=True)
class Found:
    """What one target did, and what was wrong."""

    target: str
    examples: int = 0
    slowest_ms: float = 0.0
    wrong: list[str] = field(default_factory=list)
    note: str = ""


def try_examples(
    strategy: st.SearchStrategy[_Example],
    target: Callable[[_Example], None],
    seconds: float,
    first_seed: int,
    found: Found,
) -> None:
    """Try examples, which are not shrunk, until the time is over or enough is wrong."""
    end, round_ = time.monotonic() + seconds, 0
    enough = len(found.wrong) + ENOUGH
    while time.monotonic() < end and len(found.wrong) < enough:
        round_ += 1

        @seed(first_seed * 1000 + round_)
        @settings(
            max_examples=25,
            deadline=None,
            database=None,
            phases=[Phase.generate],
            suppress_health_check=list(HealthCheck),
        )
        @given(strategy)
        def once(example: _Example) -> None:
            if time.monotonic() < end:
                target(example)

        once()


def look_at_log(ours: Gateway, started: int, found: Found) -> None:
    """No exception of nearhit, and none of its lines with what a client sent."""
    written = ours.server.printed()[started:]
    for part in written.split("Traceback (most recent call last):\n")[1:]:
        frames = "\n".join(takewhile(lambda line: line.startswith(" "), part.splitlines()))
        if _OURS.search(frames):
            found.wrong.append(f"an exception of nearhit: {part[:1500]}")
    for line in written.splitlines():
        if "nearhit" in line and MARK in line:
            found.wrong.append(f"a line with a prompt: {line[:300]}")
    log = ours.folder / "data" / "store.log"
    if log.exists() and MARK in log.read_text("utf-8", "replace"):
        found.wrong.append("the store process wrote a prompt")


def ends_of(values: Sequence[float]) -> tuple[float, float]:
    """Return the medians of the first and the last tenth."""
    part = max(1, len(values) // 10)
    return float(np.median(values[:part])), float(np.median(values[-part:]))
