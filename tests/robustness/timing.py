"""Can a tenant learn from the time of an answer what another tenant has asked?

    python tests/robustness/timing.py --samples 400 --json timing.json

In process, with the real encoder, verifier and store, and no network between: the best case of an
attacker. A victim asks some questions; then another tenant asks those and as many that nobody has
asked, in random order, each once and each a miss. The AUC of the two distributions of time is the
chance that one drawn question is told rightly from another: 0.5 tells nothing. The interval is a
bootstrap. A second figure is of the tenant itself, who is meant to be answered from the cache.
"""

import argparse
import asyncio
import json
import random
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "examples"))
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

from nearhit.cache import Cache
from nearhit.config import Settings
from nearhit.encoder.artefact import load_artefact
from nearhit.encoder.serving import load_encoder, load_verifier
from nearhit.request import Policy, Question, read
from nearhit.store.embedded import EmbeddedStore
from robustness.stand import ROOT, artefact_folder, workplace

QUESTIONS: Final = ROOT / "tests" / "data" / "encoder" / "questions.txt"
SECRET: Final = b"a secret of this measurement, of no use"
ANSWER: Final = (
    '{"choices":[{"index":0,"message":{"role":"assistant","content":"As follows."},'
    '"finish_reason":"stop"}]}'
)
_DRAWS: Final = 1000
Seconds = NDArray[np.float64]


def ask(text: str, tenant: str) -> Question:
    """Read a question of a tenant."""
    body = {"model": "m", "messages": [{"role": "user", "content": text}]}
    question = read(body, ("key", tenant), Policy(10, 1.0, None), SECRET)
    assert isinstance(question, Question)
    return question


def auc(slow: Seconds, fast: Seconds) -> float:
    """Return the chance that one of `slow` is above one of `fast`."""
    ranks = np.concatenate([slow, fast]).argsort().argsort()[: len(slow)]
    return float((ranks.sum() - len(slow) * (len(slow) - 1) / 2) / (len(slow) * len(fast)))


def interval(slow: Seconds, fast: Seconds, seed: int) -> tuple[float, float]:
    """Return the 95 % bootstrap interval of the AUC."""
    rng = np.random.default_rng(seed)
    drawn = [auc(rng.choice(slow, len(slow)), rng.choice(fast, len(fast))) for _ in range(_DRAWS)]
    low, high = np.percentile(drawn, [2.5, 97.5])
    return float(low), float(high)


async def measure(folder: Path, built: Path, samples: int, seed: int) -> dict[str, Any]:
    """Ask as victim, as another tenant, and as the victim again."""
    artefact = load_artefact(built)
    settings = Settings(data_dir=folder, deadline_ms=10_000, coalesce_wait_s=0)
    encoder, verifier = load_encoder(settings, artefact), load_verifier(settings, artefact)
    store = EmbeddedStore(folder, dimension=encoder.dimension)
    cache = Cache(settings, SECRET, store, encoder, verifier)
    rng = random.Random(seed)
    base = [line for line in QUESTIONS.read_text("utf-8").splitlines() if 20 < len(line) < 80]
    # Of one list and of one form, so that nothing but having been asked tells them apart.
    texts = [f"{rng.choice(base)} ({rng.choice(base)})" for _ in range(2 * samples)]
    asked, fresh = texts[:samples], texts[samples:]

    async def timed(text: str, tenant: str) -> float:
        question = ask(text, tenant)
        began = time.perf_counter()
        await cache.answer(question)
        return time.perf_counter() - began

    try:
        for text in asked:
            lookup = await cache.answer(ask(text, "victim"))
            cache.keep(lookup, ANSWER)
            await cache.settle()
        order = [(text, True) for text in asked] + [(text, False) for text in fresh]
        rng.shuffle(order)
        took = [(await timed(text, "attacker"), was) for text, was in order]
        # The victim's own questions, and fresh ones of its own.
        mine = [(text, True) for text in asked] + [(f"Well, {text}", False) for text in fresh]
        rng.shuffle(mine)
        own = [(await timed(text, "victim"), was) for text, was in mine]
    finally:
        await cache.close()
    return {"another tenant": _figures(took, seed), "the tenant itself": _figures(own, seed)}


def _figures(took: Sequence[tuple[float, bool]], seed: int) -> dict[str, Any]:
    asked = np.array([seconds for seconds, was in took if was])
    fresh = np.array([seconds for seconds, was in took if not was])
    low, high = interval(fresh, asked, seed)
    return {
        "samples": len(asked),
        "asked_before_ms": 1000 * float(np.median(asked)),
        "never_asked_ms": 1000 * float(np.median(fresh)),
        "auc": auc(fresh, asked),
        "low": low,
        "high": high,
    }


def main(argv: Sequence[str] | None = None) -> int:
    """Print the table; return 1 if another tenant can tell."""
    assert __doc__ is not None
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--samples", type=int, default=400)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--json", type=Path, help="write the figures there too")
    options = parser.parse_args(argv)
    with workplace() as folder:
        found = asyncio.run(
            measure(folder / "data", artefact_folder(), options.samples, options.seed)
        )
    table = Table("who asks", "asked before, p50 ms", "never asked, p50 ms", "AUC (95 %)")
    for name, one in found.items():
        shown = f"{one['auc']:.3f} ({one['low']:.3f} to {one['high']:.3f})"
        table.add_row(name, f"{one['asked_before_ms']:.2f}", f"{one['never_asked_ms']:.2f}", shown)
    Console(width=None if sys.stdout.isatty() else 100).print(table)
    if options.json:
        options.json.write_text(json.dumps(found, indent=2), "utf-8")
    return int(found["another tenant"]["low"] > 0.55)


if __name__ == "__main__":
    sys.exit(main())
