"""From near neighbours to candidates: what verifier and guards say of each.

A candidate that a guard forbids is verified all the same: a miss names the guard only where the
verifier would have let it through.
"""

import math
from collections.abc import Collection, Sequence
from dataclasses import replace
from typing import Final, Protocol

from nearhit.decision import Candidate
from nearhit.guards import first_veto
from nearhit.store import Neighbour

_FORM: Final = " .?!"  # what may stand at the end or not


class Verifier(Protocol):
    """Reads two questions together and tells how likely one answer serves both."""

    @property
    def fingerprint(self) -> str:
        """Names it; equal where the confidences are."""

    def floor(self, confidence: float) -> float:
        """Return the similarity below which it hardly ever tells such a confidence, or more."""

    def threshold(self, target_precision: float) -> float:
        """Return the confidence from which at most 1 - `target_precision` of hits are wrong."""

    async def confidences(
        self, asked: str, stored: Sequence[str], similarities: Sequence[float]
    ) -> list[float]:
        """Return a calibrated probability for each stored question, in [0, 1].

        Args:
            asked: the new question.
            stored: the stored ones.
            similarities: cosine of each to the new one.

        Raises:
            EncoderBusy: too many questions wait.
            EncoderError: it failed.
        """

    async def close(self) -> None:
        """Finish what is being computed and let go."""


def weigh(
    asked: str, neighbours: Sequence[Neighbour], guards: Collection[str], verifier: Verifier | None
) -> tuple[Candidate, ...]:
    """Say of the nearest stored questions what can be said without the verifier.

    Args:
        asked: the new question.
        neighbours: the stored ones with their similarity, whose scope was checked.
        guards: names of the guards in force.
        verifier: None: the similarity stands for the confidence. Else that is 1 for the same words,
            and 0 until `judge` has asked.
    """
    words = words_of(asked)
    return tuple(
        Candidate(
            found.entry,
            found.similarity,
            min(1.0, max(0.0, found.similarity))
            if verifier is None
            else float(words_of(found.entry.text) == words),
            first_veto(found.entry.text, asked, guards),
        )
        for found in neighbours
    )


async def judge(
    asked: str,
    candidates: Sequence[Candidate],
    verifier: Verifier | None,
    enough: float = math.inf,
    wanted: float = 0.0,
) -> tuple[Candidate, ...]:
    """Ask the verifier of those above a floor that are not the same words anyway.

    Args:
        asked: the new question.
        candidates: from `weigh`, the nearest first.
        verifier: None: nothing is asked.
        enough: a confidence that ends the search: where the nearest has it and no guard forbids
            it, the others are not verified and keep 0. One pair takes a third of the time of
            three, and no longer before two others than in one batch with them.
        wanted: a confidence; what is so far that it hardly ever has as much keeps 0.

    Raises:
        EncoderError: as the verifier.
    """
    told = list(candidates)
    if verifier is None:
        return tuple(told)
    floor = verifier.floor(wanted)
    left = [
        index for index, one in enumerate(told) if not one.confidence and one.similarity >= floor
    ]
    first = next((index for index in left if told[index].veto is None), None)
    steps = [left] if first is None else [[first], [index for index in left if index != first]]
    for step in steps:
        if any(one.veto is None and one.confidence >= enough for one in told):
            break
        confidences = await verifier.confidences(
            asked, [told[i].entry.text for i in step], [told[i].similarity for i in step]
        )
        for index, confidence in zip(step, confidences, strict=True):
            told[index] = replace(told[index], confidence=confidence)
    return tuple(told)


def words_of(text: str) -> str:
    """Return the text but for case, blanks and a mark at the end."""
    return " ".join(text.casefold().split()).rstrip(_FORM)
