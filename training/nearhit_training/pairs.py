"""Pairs of real questions that a judge or a person can label: which ones, and which ones not."""

import random
from collections import Counter, defaultdict
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Final

from nearhit.encoder.base import Encoder
from nearhit_training.filters import Rule, is_duplicate, is_other_language, normal
from nearhit_training.neighbours import Matrix, encode_all, highest_similarity, nearest
from nearhit_training.questions import Question

_BAND: Final = 0.05  # of similarity; as many pairs are drawn from each as it has, in turn


@dataclass(frozen=True, slots=True)
class Pair:
    """Two questions, and whether one answer serves both (1, 0), or None: not known yet."""

    a: str
    b: str
    label: int | None
    similarity: float
    domain: str
    source: str


@dataclass(frozen=True, slots=True)
class Range:
    """Which neighbours become pairs.

    Attributes:
        ranks: among a question's neighbours, the closest is 1.
        lowest: similarity from which on.
        highest: similarity up to which.
    """

    ranks: Collection[int]
    lowest: float
    highest: float


class PairReader:
    """Turns questions and reported pairs into pairs that may be trained on; counts the rest."""

    def __init__(
        self, encoder: Encoder, held_out: Sequence[str], leak: float, counts: Counter[Rule]
    ) -> None:
        self._encoder = encoder
        self._texts = held_out
        self._held_out = {normal(text) for text in held_out}
        self._leak = leak
        self._counts = counts
        self._vectors: Matrix

    async def prepare(self) -> None:
        """Encode the held-out texts."""
        self._vectors, _ = await encode_all(self._encoder, self._texts, "held-out")

    async def mined(self, questions: Sequence[Question], wanted: Range) -> list[Pair]:
        """Return neighbours as unlabelled pairs."""
        seen: set[str] = set()
        kept = []
        for question in questions:
            if is_duplicate(question.text, seen):
                self._counts["duplicate"] += 1
            else:
                seen.add(normal(question.text))
                kept.append(question)
        vectors, without = await encode_all(self._encoder, [q.text for q in kept], "questions")
        leaked = self._leaks([question.text for question in kept], vectors)
        self._counts["unencodable"] += len(without - leaked)
        self._counts["leakage"] += len(leaked)
        rows = [row for row in range(len(kept)) if row not in leaked and row not in without]
        kept, vectors = [kept[row] for row in rows], vectors[rows]
        found: dict[tuple[int, int], Pair] = {}
        for row, rank, other, similarity in nearest(vectors, max(wanted.ranks)):
            if rank not in wanted.ranks or not wanted.lowest <= similarity <= wanted.highest:
                continue
            key = (min(row, other), max(row, other))
            a, b = (kept[index] for index in key)
            if key in found:
                continue
            if is_other_language(a.text, b.text):
                self._counts["language"] += 1
                continue
            found[key] = Pair(a.text, b.text, None, round(similarity, 4), a.domain, "mined")
        return list(found.values())

    async def reported(self, pairs: Sequence[Pair]) -> list[Pair]:
        """Measure pairs of a proxy's log with the current encoder; drop what is held out."""
        a, _ = await encode_all(self._encoder, [pair.a for pair in pairs], "reported")
        b, _ = await encode_all(self._encoder, [pair.b for pair in pairs], "reported")
        leaked = self._leaks([p.a for p in pairs], a) | self._leaks([p.b for p in pairs], b)
        self._counts["leakage"] += len(leaked)
        return [
            Pair(p.a, p.b, p.label, round(float(a[row] @ b[row]), 4), p.domain, p.source)
            for row, p in enumerate(pairs)
            if row not in leaked
        ]

    def _leaks(self, texts: Sequence[str], vectors: Matrix) -> set[int]:
        close = highest_similarity(vectors, self._vectors) >= self._leak
        return {
            row for row, text in enumerate(texts) if close[row] or normal(text) in self._held_out
        }


def spread(pairs: Sequence[Pair], most: int, seed: int) -> list[Pair]:
    """Draw at most so many pairs, evenly over bands of similarity, in a reproducible order."""
    rng = random.Random(seed)  # noqa: S311 - not for secrets
    bands: defaultdict[int, list[Pair]] = defaultdict(list)
    for pair in pairs:
        bands[int(pair.similarity / _BAND)].append(pair)
    for band in bands.values():
        rng.shuffle(band)
    drawn: list[Pair] = []
    while len(drawn) < most and any(bands.values()):
        for key in sorted(bands):
            if bands[key] and len(drawn) < most:
                drawn.append(bands[key].pop())
    return drawn


def unique(pairs: Sequence[Pair], counts: Counter[Rule]) -> list[Pair]:
    """Keep each pair once, a labelled one before an unlabelled one; drop contradictions."""
    by_key: defaultdict[frozenset[str], list[Pair]] = defaultdict(list)
    for pair in pairs:
        by_key[frozenset((normal(pair.a), normal(pair.b)))].append(pair)
    kept = []
    for key, same in by_key.items():
        labels = {pair.label for pair in same} - {None}
        if len(labels) > 1:
            counts["contradictory"] += len(same)
        elif len(key) < 2 or "" in key:
            counts["duplicate"] += len(same)
        else:
            counts["duplicate"] += len(same) - 1
            kept.append(next((pair for pair in same if pair.label is not None), same[0]))
    return kept
