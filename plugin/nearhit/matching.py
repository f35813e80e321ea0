"""From near neighbours to candidates: what verifier and guards say of each.

A candidate that a guard forbids is verified all the same: a miss names the guard only where the
verifier would have let it through.
"""

from collections.abc import Collection, Sequence
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

    @property
    def floor(self) -> float:
        """Similarity below which it is not asked."""

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


async def judge(
    asked: str,
    neighbours: Sequence[Neighbour],
    guards: Collection[str],
    verifier: Verifier | None,
) -> tuple[Candidate, ...]:
    """Judge the nearest stored questions.

    Args:
        asked: the new question.
        neighbours: the stored ones with their similarity, whose scope was checked.
        guards: names of the guards in force.
        verifier: None: the similarity stands for the confidence. Below its floor that is 0.

    Raises:
        EncoderError: as the verifier.
    """
    if verifier is None:
        confidences = [min(1.0, max(0.0, found.similarity)) for found in neighbours]
    else:
        confidences = await _verified(asked, neighbours, verifier)
    return tuple(
        Candidate(found.entry, found.similarity, sure, first_veto(found.entry.text, asked, guards))
        for found, sure in zip(neighbours, confidences, strict=True)
    )


async def _verified(asked: str, neighbours: Sequence[Neighbour], verifier: Verifier) -> list[float]:
    """Ask the verifier of those above its floor that are not the same words anyway."""
    words = _words(asked)
    confidences = [float(_words(found.entry.text) == words) for found in neighbours]
    doubtful = [
        (index, found)
        for index, found in enumerate(neighbours)
        if not confidences[index] and found.similarity >= verifier.floor
    ]
    told = await verifier.confidences(
        asked,
        [found.entry.text for _, found in doubtful],
        [found.similarity for _, found in doubtful],
    )
    for (index, _), confidence in zip(doubtful, told, strict=True):
        confidences[index] = confidence
    return confidences


def _words(text: str) -> str:
    """The text but for case, blanks and a mark at the end."""
    return " ".join(text.casefold().split()).rstrip(_FORM)
