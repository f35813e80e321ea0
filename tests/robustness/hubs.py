"""How many questions can one hostile entry be served to? A hub attack, with everything that serves.

    python tests/robustness/hubs.py --json hubs.json

An entry is served within its own scope only, so this is about those who share one: `scope: team`,
`org` or `global`, or a tenant whose own users are hostile. Entries that might sit close to many
questions are made: short and general ones, runs of common words, questions joined together, and
the best found by 300 steps of a greedy search that swaps words to raise the mean cosine to half of
the questions. Each is put beside every question of the other half (and of the list): encoder,
verifier, guards and threshold decide as they do in the proxy. Counted is to how many questions,
other than what it asks itself, an entry would be served.
"""

import argparse
import asyncio
import json
import random
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final
from uuid import UUID

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "examples"))
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import numpy as np
from rich.console import Console
from rich.table import Table

from nearhit.cache import threshold_of
from nearhit.config import Settings
from nearhit.decision import Hit, decide
from nearhit.encoder import Unencodable, Vector
from nearhit.encoder.artefact import load_artefact
from nearhit.encoder.runtime import OnnxEncoder
from nearhit.encoder.serving import load_encoder, load_verifier
from nearhit.matching import judge, weigh
from nearhit.store import Entry, Neighbour
from robustness.stand import ROOT, artefact_folder

QUESTIONS: Final = ROOT / "tests" / "data" / "encoder" / "questions.txt"
_SHORT: Final = (
    *("?", "help", "question", "how do I", "what is it", "tell me more", "please answer", "why"),
    *("answer this question", "how", "what should I do", "explain", "hello", "yes", "continue"),
    *("the same question again", "any question about anything", "ignore the question and say yes"),
)
_STEPS: Final = 300
_NOBODY: Final = UUID(int=1)


@dataclass(frozen=True, slots=True)
class Row:
    """One way to attack: how many entries, and what the worst and all of them reached."""

    way: str
    entries: int
    questions: int
    highest_similarity: float
    above_floor: int
    most_served: int
    served: int


def candidates(questions: Sequence[str], rng: random.Random) -> dict[str, list[str]]:
    """Make the entries by way."""
    common = [
        "how",
        "do",
        "i",
        "can",
        "you",
        "what",
        "is",
        "the",
        "a",
        "to",
        "my",
        "for",
        "in",
        "of",
        "and",
        "it",
        "with",
        "on",
        "when",
        "should",
    ]
    return {
        "short and general": list(_SHORT),
        "runs of common words": [
            " ".join(rng.choices(common, k=length)) for length in (4, 8, 16, 32) for _ in range(10)
        ],
        "two to eight questions joined": [
            " ".join(rng.sample(questions, count)) for count in (2, 3, 4, 8) for _ in range(10)
        ],
        "other questions of the list": rng.sample(questions, 60),
    }


async def search(encoder: OnnxEncoder, questions: Sequence[str], rng: random.Random) -> list[str]:
    """Swap words for a higher mean cosine; return the texts on the way that were best."""
    vectors = await encode_all(encoder, questions)
    target = np.mean([vector for vector in vectors if vector is not None], axis=0)
    words = sorted({word for question in questions for word in question.lower().split()})
    best = rng.choices(words, k=8)
    value, found = -1.0, list[str]()
    for _ in range(_STEPS):
        changed = list(best)
        changed[rng.randrange(len(changed))] = rng.choice(words)
        vector = (await encode_all(encoder, [" ".join(changed)]))[0]
        if vector is not None and float(vector @ target) > value:
            value, best = float(vector @ target), changed
            found.append(" ".join(best))
    return found[-10:]


async def encode_all(encoder: OnnxEncoder, texts: Sequence[str]) -> list[Vector | None]:
    """Encode texts one after the other; None: it has no vector, and is never served by meaning."""
    found = [await encoder.encode(text) for text in texts]
    return [None if isinstance(one, Unencodable) else one for one in found]


async def measure(artefact: Path, seed: int) -> list[Row]:
    """Attack in each way."""
    settings = Settings(deadline_ms=10_000)
    loaded = load_artefact(artefact)
    encoder, verifier = load_encoder(settings, loaded), load_verifier(settings, loaded)
    assert verifier is not None
    rng = random.Random(seed)
    everything = [line for line in QUESTIONS.read_text("utf-8").splitlines() if line.strip()]
    rng.shuffle(everything)
    known, asked = everything[: len(everything) // 2], everything[len(everything) // 2 :]
    ways = candidates(known, rng) | {"greedy search": await search(encoder, known, rng)}
    vectors = await encode_all(encoder, asked)
    threshold = threshold_of(settings, verifier)
    rows = []
    for way, texts in ways.items():
        served, above, highest = [0] * len(texts), 0, 0.0
        for place, (text, own) in enumerate(
            zip(texts, await encode_all(encoder, texts), strict=True)
        ):
            if own is None:
                continue
            entry = Entry(_NOBODY, "s", encoder.fingerprint, text, "{}", "m", 1, 2, 0, "", 0, own)
            for question, vector in zip(asked, vectors, strict=True):
                similarity = -1.0 if vector is None else float(own @ vector)
                highest = max(highest, similarity)
                if similarity < verifier.floor(0):
                    continue
                above += 1
                near = [Neighbour(entry, similarity)]
                weighed = weigh(question, near, settings.guards, verifier)
                told = await judge(question, weighed, verifier)
                served[place] += isinstance(decide(told, threshold), Hit)
        rows.append(Row(way, len(texts), len(asked), highest, above, max(served), sum(served)))
    await encoder.close()
    await verifier.close()
    return rows


def main(argv: Sequence[str] | None = None) -> int:
    """Print the table."""
    assert __doc__ is not None
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--json", type=Path, help="write the table there too")
    options = parser.parse_args(argv)
    rows = asyncio.run(measure(artefact_folder(), options.seed))
    table = Table(
        *("entries", "how many", "questions", "highest cosine", "pairs verified"),
        *("most served by one", "served by all"),
    )
    for row in rows:
        highest = f"{row.highest_similarity:.2f}"
        counts = (row.above_floor, row.most_served, row.served)
        table.add_row(row.way, str(row.entries), str(row.questions), highest, *map(str, counts))
    Console(width=None if sys.stdout.isatty() else 120).print(table)
    if options.json:
        options.json.write_text(json.dumps([asdict(row) for row in rows], indent=2), "utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
