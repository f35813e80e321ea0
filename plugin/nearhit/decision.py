"""What became of a question: a pure value, decided without any I/O.

`Hit`: a stored answer is served. `Miss`: the model is called, its answer may be stored.
`Bypass`: the model is called and nothing is read or stored.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Literal

from nearhit.store import Entry

HitKind = Literal["exact", "semantic", "coalesced"]
QUARANTINE: Final = "quarantine"
"""The veto of a stored question that was found wrong for this one."""
VALVE: Final = "valve_"
"""How the reasons of `valves` begin, and the veto of an entry that one holds."""


@dataclass(frozen=True, slots=True)
class Candidate:
    """A stored question that may be this one, and what is known of that.

    Attributes:
        entry: the stored question and its answer.
        similarity: cosine between the two questions.
        confidence: probability that one answer serves both; without a verifier the similarity.
        veto: the guard that forbids it, `QUARANTINE` or a valve, if one does.
    """

    entry: Entry
    similarity: float
    confidence: float
    veto: str | None = None


@dataclass(frozen=True, slots=True)
class Hit:
    """A stored answer that serves this question.

    `similarity` is the cosine between the two questions, `confidence` the probability that the
    answer is right; both are 1.0 for an exact repeat.
    """

    entry: Entry
    kind: HitKind
    similarity: float
    confidence: float


@dataclass(frozen=True, slots=True)
class Miss:
    """No stored answer serves this question.

    `similarity` and `confidence` are those of the candidate that came nearest to a hit, if any.
    """

    reason: str
    similarity: float | None = None
    confidence: float | None = None


@dataclass(frozen=True, slots=True)
class Bypass:
    """A question that the cache keeps its hands off."""

    reason: str


Outcome = Hit | Miss | Bypass


def decide(candidates: Sequence[Candidate], threshold: float) -> Hit | Miss:
    """Choose among the nearest stored questions of one scope: the surest, not the nearest.

    Args:
        candidates: in any order; their scope and expiry were checked by the store.
        threshold: confidence, in (0, 1], from which another wording is the same question.

    Returns:
        A miss names what it failed on: ``nothing_near``; ``guard_<name>`` where a guard forbade
        the only candidates that were sure enough, ``quarantine`` where they were found wrong for
        this question before, ``valve_<name>`` where a valve holds them; ``below_threshold``.
    """
    if not candidates:
        return Miss("nothing_near")
    best = max(candidates, key=lambda one: (one.veto is None, one.confidence, one.similarity))
    if best.veto is None and best.confidence >= threshold:
        return Hit(best.entry, "semantic", best.similarity, best.confidence)
    surest = max(candidates, key=lambda one: (one.confidence, one.similarity))
    if surest.veto is not None and surest.confidence >= threshold:
        is_no_guard = surest.veto == QUARANTINE or surest.veto.startswith(VALVE)
        reason = surest.veto if is_no_guard else f"guard_{surest.veto}"
        return Miss(reason, surest.similarity, surest.confidence)
    return Miss("below_threshold", surest.similarity, surest.confidence)
