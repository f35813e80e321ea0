"""What became of a question: a pure value, decided without any I/O.

`Hit`: a stored answer is served. `Miss`: the model is called, its answer may be stored.
`Bypass`: the model is called and nothing is read or stored.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from nearhit.store import Entry, Neighbour

HitKind = Literal["exact", "semantic", "coalesced"]


@dataclass(frozen=True, slots=True)
class Hit:
    """A stored answer that serves this question.

    `similarity` is the cosine between the two questions, 1.0 for an exact repeat.
    """

    entry: Entry
    kind: HitKind
    similarity: float


@dataclass(frozen=True, slots=True)
class Miss:
    """No stored answer serves this question.

    `similarity` is the cosine of the nearest stored question in the same scope, if one was seen.
    """

    reason: str
    similarity: float | None = None


@dataclass(frozen=True, slots=True)
class Bypass:
    """A question that the cache keeps its hands off."""

    reason: str


Outcome = Hit | Miss | Bypass


def decide(neighbours: Sequence[Neighbour], threshold: float) -> Hit | Miss:
    """Choose among the nearest stored questions of one scope.

    Args:
        neighbours: candidates in any order; their scope and expiry were checked by the store.
        threshold: cosine similarity, in (0, 1], from which another wording is the same question.
    """
    if not neighbours:
        return Miss("nothing_near")
    best = max(neighbours, key=lambda neighbour: neighbour.similarity)
    if best.similarity >= threshold:
        return Hit(best.entry, "semantic", best.similarity)
    return Miss("below_threshold", best.similarity)
