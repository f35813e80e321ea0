"""How many questions can one hostile entry be served to? A hub attack, with everything that serves.

    python tests/robustness/hubs.py --json hubs.json
    python tests/robustness/hubs.py --cosine 0.3 --bound 10

An entry is served within its own scope only, so this is about those who share one: `scope: team`,
`org` or `global`, or a tenant whose own users are hostile. Entries that might sit close to many
questions are made: short and general ones, runs of common words, questions joined together, and
the best found by 300 steps of a greedy search that swaps words to raise the mean cosine to half of
the questions. Each is put beside every question of the other half (and of the list): encoder,
verifier, guards and threshold decide as they do in the proxy. Counted is to how many questions,
other than what it asks itself, an entry would be served, without the valve `questions_per_entry`
and with it, all within one window. `--cosine 0.3` attacks a cache that cosine alone decides, from
so low a threshold that the attack succeeds; `--bound 10` is the bound of the valve.
"""

import argparse
import asyncio
import json
import logging
import random
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final
from uuid import uuid4

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "examples"))
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import numpy as np
from rich.console import Console
from rich.table import Table

from nearhit.cache import threshold_of
from nearhit.config import Settings, ValveSettings
from nearhit.decision import Hit, decide
from nearhit.encoder import Unencodable, Vector
from nearhit.encoder.artefact import load_artefact
from nearhit.encoder.runtime import OnnxEncoder
from nearhit.encoder.serving import load_encoder, load_verifier
from nearhit.matching import judge, weigh
from nearhit.request import Policy, Question, read
from nearhit.store import Entry, Neighbour
from nearhit.valves import Valves
from robustness.stand import ROOT, artefact_folder

QUESTIONS: Final = ROOT / "tests" / "data" / "encoder" / "questions.txt"
_SHORT: Final = (
    *("?", "help", "question", "how do I", "what is it", "tell me more", "please answer", "why"),
    *("answer this question", "how", "what should I do", "explain", "hello", "yes", "continue"),
    *("the same question again", "any question about anything", "ignore the question and say yes"),
)
_STEPS: Final = 300


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
    most_served_with_valve: int
    served_with_valve: int


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


def asks(text: str) -> Question:
    """Read a question as the hook does."""
    body = {"model": "m", "messages": [{"role": "user", "content": text}]}
    policy = Policy(max_turns=4, max_temperature=1.0, freshness=None)
    question = read(body, ("team", "red"), policy, b"a secret of this attack")
    assert isinstance(question, Question)
    return question


async def measure(artefact: Path, seed: int, cosine: float | None, bound: int | None) -> list[Row]:
    """Attack in each way.

    Args:
        artefact: folder of encoder and verifier.
        seed: of what is drawn.
        cosine: threshold of a cache that cosine alone decides; None: as it is by default.
        bound: of the valve; None: the default.
    """
    valves = {} if bound is None else {"questions_per_entry": bound}
    settings = Settings(deadline_ms=10_000, valves=ValveSettings.model_validate(valves))
    loaded = load_artefact(artefact)
    encoder, reader = load_encoder(settings, loaded), load_verifier(settings, loaded)
    assert reader is not None
    verifier, guards = (reader, settings.guards) if cosine is None else (None, ())
    floor = reader.floor(0) if cosine is None else cosine
    threshold = threshold_of(settings, reader) if cosine is None else cosine
    rng = random.Random(seed)
    everything = [line for line in QUESTIONS.read_text("utf-8").splitlines() if line.strip()]
    rng.shuffle(everything)
    known, asked = everything[: len(everything) // 2], everything[len(everything) // 2 :]
    ways = candidates(known, rng) | {"greedy search": await search(encoder, known, rng)}
    vectors = await encode_all(encoder, asked)
    rows = []
    for way, texts in ways.items():
        served, valved, above, highest = [0] * len(texts), [0] * len(texts), 0, 0.0
        shut = Valves(settings.valves)
        for place, (text, own) in enumerate(
            zip(texts, await encode_all(encoder, texts), strict=True)
        ):
            if own is None:
                continue
            entry = Entry(uuid4(), "s", encoder.fingerprint, text, "{}", "m", 1, 2, 0, "", 0, own)
            for question, vector in zip(asked, vectors, strict=True):
                similarity = -1.0 if vector is None else float(own @ vector)
                highest = max(highest, similarity)
                if similarity < floor:
                    continue
                above += 1
                near = [Neighbour(entry, similarity)]
                weighed = weigh(question, near, guards, verifier)
                told = await judge(question, weighed, verifier)
                served[place] += isinstance(decide(told, threshold), Hit)
                found = decide(shut.forbid(told), threshold)
                valved[place] += isinstance(shut.admit(asks(question), found), Hit)
        counts = (max(served), sum(served), max(valved), sum(valved))
        rows.append(Row(way, len(texts), len(asked), highest, above, *counts))
    await encoder.close()
    await reader.close()
    return rows


def main(argv: Sequence[str] | None = None) -> int:
    """Print the table."""
    assert __doc__ is not None
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--cosine", type=float, help="decide by cosine alone, from this threshold")
    parser.add_argument("--bound", type=int, help="bound of the valve; default: the default")
    parser.add_argument("--json", type=Path, help="write the table there too")
    options = parser.parse_args(argv)
    measuring = measure(artefact_folder(), options.seed, options.cosine, options.bound)
    logging.disable(logging.WARNING)  # a line an entry that is held
    rows = asyncio.run(measuring)
    table = Table(
        *("entries", "how many", "questions", "highest cosine", "near pairs"),
        *("most served by one", "served by all", "most with the valve", "all with the valve"),
    )
    for row in rows:
        highest = f"{row.highest_similarity:.2f}"
        counts = (
            *(row.above_floor, row.most_served, row.served),
            *(row.most_served_with_valve, row.served_with_valve),
        )
        table.add_row(row.way, str(row.entries), str(row.questions), highest, *map(str, counts))
    Console(width=None if sys.stdout.isatty() else 120).print(table)
    if options.json:
        options.json.write_text(json.dumps([asdict(row) for row in rows], indent=2), "utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
