"""Look for texts on which guards and the reading of a request take more than linear time.

    python tests/robustness/slow.py

Each hostile text is made at 500, 1000, 2000 and 4000 characters, the most that a guard looks at
(the freshness words see all of a text: 50,000 to 400,000), and the exponent of its time is the
slope of a line through the logarithms. 1 is linear, 2 quadratic. Shown are the slowest, in CPU time
of the thread.
"""

import argparse
import math
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "examples"))
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import numpy as np
from rich.console import Console
from rich.table import Table

from nearhit.config import DEFAULT_FRESHNESS
from nearhit.guards import GUARDS, Guard
from nearhit.request import freshness_pattern

LENGTHS: Final = (500, 1000, 2000, 4000)
_FRESH: Final = freshness_pattern(DEFAULT_FRESHNESS)
# Two pieces each: what the stored and the asked question repeat.
PIECES: Final[tuple[tuple[str, str], ...]] = (
    ("C ", "Rust "),
    ("lisinopril atenolol ", "atenolol losartan "),
    ("1,111", "1.1.1"),
    ("one hundred ", "two million "),
    ("5 mg ", "6 mg "),
    ("a_b.c/d-e ", "--a_b `c` "),
    ('"', '"a'),
    ("`", "```a"),
    ("'", "it's "),
    ("a ", "b a "),
    ("to from ", "from to "),
    ("and x ", "x and "),
    ("enable before on ", "disable after off "),
    ("unable not never ", "un in dis "),
    ("a\u0301\u0323\u0301\u0323", "\u0301\u0323"),
    ("\ufdfa", "\u3300"),
    (" ", "\n\t"),
    (". ", "?\r\n"),
    ("(", "[{"),
    ("x = ", "= x "),
    ("right  ", "price  "),
    ("my child ", "my adult "),
)


@dataclass(frozen=True, slots=True)
class Row:
    """One guard on one kind of text."""

    what: str
    text: str
    longest_ms: float
    exponent: float


def grown(work: Callable[[int], None], lengths: Sequence[int]) -> tuple[float, float]:
    """Return milliseconds at the greatest length, and the exponent of the growth."""
    took = []
    for length in lengths:
        best = math.inf
        for _ in range(2):
            _forget()
            began = time.thread_time()
            work(length)
            best = min(best, time.thread_time() - began)
        took.append(best)
    exponent = np.polyfit(np.log(lengths), np.log(took), 1)[0]
    return 1000 * took[-1], float(exponent)


def _forget() -> None:
    """Empty what the guards remember of texts."""
    for name, module in list(sys.modules.items()):
        if name.startswith("nearhit.guards."):
            for value in vars(module).values():
                if hasattr(value, "cache_clear"):
                    value.cache_clear()


def measure(lengths: Sequence[int] = LENGTHS) -> list[Row]:
    """Try each guard on each kind of text, and the freshness words on longer ones."""
    rows = []
    for one, other in PIECES:
        for name, guard in GUARDS.items():
            work = partial(_judge, guard, one, other)
            rows.append(Row(name, repr(one + other), *grown(work, lengths)))
        rows.append(Row("freshness words", repr(one), *grown(partial(_look, one), lengths)))
    return sorted(rows, key=lambda row: -row.longest_ms)


def _judge(guard: Guard, one: str, other: str, length: int) -> None:
    guard((one * length)[:length], (other * length)[: length - 1] + "x")


def _look(one: str, length: int) -> None:
    assert _FRESH is not None
    _FRESH.search((one * 100 * length)[: 100 * length])


def main(argv: Sequence[str] | None = None) -> int:
    """Print the slowest text of each."""
    assert __doc__ is not None
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.parse_args(argv)
    slowest: dict[str, Row] = {}
    for row in measure():
        slowest.setdefault(row.what, row)
    table = Table("what", "text", "ms at the greatest length", "exponent")
    for row in slowest.values():
        table.add_row(row.what, row.text, f"{row.longest_ms:.1f}", f"{row.exponent:.2f}")
    Console(width=None if sys.stdout.isatty() else 110).print(table)
    return 0


if __name__ == "__main__":
    sys.exit(main())
