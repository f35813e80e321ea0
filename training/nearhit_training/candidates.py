"""The texts that a model wrote, on their way through the filters into groups.

Cheap rules come first: `WordFilter` costs nothing, `VectorFilter` 5 ms a text, a judge money.
"""

import hashlib
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np

from nearhit.encoder.base import Encoder
from nearhit_training.drafts import Draft, Kind
from nearhit_training.filters import Rule, broken_rule, is_duplicate, normal
from nearhit_training.neighbours import Matrix, encode_all, highest_similarity, repeated
from nearhit_training.questions import Question


@dataclass(frozen=True, slots=True)
class Candidate:
    """A text that a model wrote for a seed.

    Attributes:
        seed: position of the seed.
        text: the text.
        kind: of a near miss; None for a paraphrase.
    """

    seed: int
    text: str
    kind: Kind | None


class WordFilter:
    """The filters that read words alone."""

    def __init__(self, held_out: Sequence[str]) -> None:
        self._held_out = {normal(text) for text in held_out}

    def unused(self, questions: Sequence[Question], counts: Counter[Rule]) -> list[Question]:
        """Drop seeds that repeat another or are held out, before anything is paid for them."""
        seen: set[str] = set()
        kept = []
        for question in questions:
            if is_duplicate(question.text, seen):
                counts["duplicate"] += 1
            elif normal(question.text) in self._held_out:
                counts["leakage"] += 1
            else:
                seen.add(normal(question.text))
                kept.append(question)
        return kept

    def fitting(
        self,
        seeds: Sequence[Question],
        drafts: Sequence[Draft | None],
        counts: Counter[Rule],
    ) -> list[Candidate]:
        """Drop texts that break a rule, repeat any text of the run, or are held out."""
        kept = []
        # Exact repeats across groups are repeats too, with or without an encoder.
        everywhere = {normal(seed.text) for seed in seeds}
        for position, (seed, draft) in enumerate(zip(seeds, drafts, strict=True)):
            if draft is None:
                continue
            written = [Candidate(position, text, None) for text in draft.paraphrases]
            written += [Candidate(position, miss.text, miss.kind) for miss in draft.near_misses]
            for candidate in written:
                same = candidate.kind is None
                rule = broken_rule(seed.text, candidate.text, same=same, seen=everywhere)
                if rule is None and normal(candidate.text) in self._held_out:
                    rule = "leakage"
                if rule is not None:
                    counts[rule] += 1
                    continue
                everywhere.add(normal(candidate.text))
                kept.append(candidate)
        return kept


class VectorFilter:
    """The filters that need the encoder."""

    def __init__(
        self, encoder: Encoder, held_out: Matrix, leak: float, near_duplicate: float
    ) -> None:
        self._encoder = encoder
        self._held_out = held_out
        self._leak = leak
        self._near_duplicate = near_duplicate
        self._seeds = np.zeros((0, encoder.dimension), np.float32)

    @classmethod
    async def of(
        cls, encoder: Encoder, held_out: Sequence[str], leak: float, near_duplicate: float
    ) -> Self:
        """Encode the held-out texts.

        Args:
            encoder: what tells how close two texts are.
            held_out: texts of evaluation files.
            leak: similarity from which on a text counts as held out.
            near_duplicate: similarity from which on texts of two groups count as one.
        """
        vectors, _ = await encode_all(encoder, held_out, "held-out")
        return cls(encoder, vectors, leak, near_duplicate)

    async def unused(self, seeds: Sequence[Question], counts: Counter[Rule]) -> list[Question]:
        """Drop seeds that are close to an earlier one or to a held-out text."""
        vectors, _ = await encode_all(self._encoder, [seed.text for seed in seeds], "seeds")
        leaked = highest_similarity(vectors, self._held_out) >= self._leak
        again = repeated(vectors, range(len(seeds)), self._near_duplicate)
        kept = [row for row in range(len(seeds)) if not leaked[row] and row not in again]
        counts["leakage"] += int(leaked.sum())
        counts["near_duplicate"] += len(seeds) - len(kept) - int(leaked.sum())
        self._seeds = vectors[kept]
        return [seeds[row] for row in kept]

    async def fitting(
        self, candidates: Sequence[Candidate], counts: Counter[Rule]
    ) -> list[Candidate]:
        """Drop texts that are close to another group's or to a held-out text."""
        vectors, _ = await encode_all(self._encoder, [c.text for c in candidates], "texts")
        leaked = highest_similarity(vectors, self._held_out) >= self._leak
        clean = [c for c, leaks in zip(candidates, leaked, strict=True) if not leaks]
        count = len(self._seeds)
        again = repeated(
            np.concatenate([self._seeds, vectors[~leaked]]),
            [*range(count), *(candidate.seed for candidate in clean)],
            self._near_duplicate,
            kept_first=count,
        )
        counts["leakage"] += int(leaked.sum())
        counts["near_duplicate"] += len(again)
        return [c for row, c in enumerate(clean, start=count) if row not in again]


def put_together(
    seeds: Sequence[Question],
    drafts: Sequence[Draft | None],
    candidates: Sequence[Candidate],
    counts: Counter[Rule],
) -> list[dict[str, Any]]:
    """Return the groups as they are written; one needs a paraphrase and a near miss."""
    groups = []
    names: set[str] = set()
    by_seed: defaultdict[int, list[Candidate]] = defaultdict(list)
    for candidate in candidates:
        by_seed[candidate.seed].append(candidate)
    for position, (seed, draft) in enumerate(zip(seeds, drafts, strict=True)):
        if draft is None:
            continue
        own = by_seed[position]
        same = [candidate.text for candidate in own if candidate.kind is None]
        other = [{"text": c.text, "kind": c.kind} for c in own if c.kind is not None]
        if not same or not other:
            counts["emptied"] += 1
            continue
        name = seed.name
        if not name or name in names:
            name = f"{seed.domain}-{hashlib.sha256(seed.text.encode()).hexdigest()[:12]}"
        names.add(name)
        groups.append(
            {
                "id": name,
                "domain": seed.domain,
                "topic": seed.topic or draft.topic,
                "query": seed.text,
                "paraphrases": same,
                "near_misses": other,
            }
        )
    return groups
