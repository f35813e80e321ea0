"""Whether form alone tells a paraphrase from a near miss: if so, a model learns the form.

Each AUC is the chance that a paraphrase has more of something than a near miss of any group
has: more words in common with its question, a lower-case start, more words. 0.5 tells nothing.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from nearhit_training.filters import normal

LOWEST: Final = 0.35
HIGHEST: Final = 0.65


@dataclass(frozen=True, slots=True)
class Shortcuts:
    """AUC of three shortcuts, each 0 to 1; 0.5 where there is nothing to compare."""

    word_overlap: float
    lower_case: float
    length: float

    def warnings(self) -> list[str]:
        """Name each shortcut that tells more than it may."""
        return [
            f"{name} alone must not tell paraphrases from near misses (AUC {LOWEST} to {HIGHEST}), "
            f"got {value:.2f}; ask for other forms or drop the most telling groups"
            for name in ("word_overlap", "lower_case", "length")
            if not LOWEST <= (value := float(getattr(self, name))) <= HIGHEST
        ]


def measure(groups: Iterable[tuple[str, Sequence[str], Sequence[str]]]) -> Shortcuts:
    """Measure the shortcuts over groups of (query, paraphrases, near misses)."""
    same: list[tuple[float, float, float]] = []
    other: list[tuple[float, float, float]] = []
    for query, paraphrases, near_misses in groups:
        same += [_form(query, text) for text in paraphrases]
        other += [_form(query, text) for text in near_misses]
    columns = [auc([row[i] for row in same], [row[i] for row in other]) for i in range(3)]
    return Shortcuts(*columns)


def overlap(a: str, b: str) -> float:
    """Return the share of words that two texts have in common (Jaccard), 0 to 1."""
    left, right = set(normal(a).split()), set(normal(b).split())
    return len(left & right) / len(left | right) if left | right else 0.0


def auc(positive: Sequence[float], negative: Sequence[float]) -> float:
    """Return the chance that a positive value exceeds a negative one; a tie counts half.

    Source: Mann and Whitney 1947, the U statistic over the number of pairs.
    """
    if not positive or not negative:
        return 0.5
    ordered = sorted([(value, 1) for value in positive] + [(value, 0) for value in negative])
    rank_sum, start = 0.0, 0
    while start < len(ordered):
        end = start
        while end < len(ordered) and ordered[end][0] == ordered[start][0]:
            end += 1
        mean_rank = (start + 1 + end) / 2
        rank_sum += mean_rank * sum(label for _, label in ordered[start:end])
        start = end
    wins = rank_sum - len(positive) * (len(positive) + 1) / 2
    return wins / (len(positive) * len(negative))


def _form(query: str, text: str) -> tuple[float, float, float]:
    return overlap(query, text), float(text.lstrip()[:1].islower()), float(len(text.split()))
