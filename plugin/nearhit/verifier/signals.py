"""What the words of two questions say beside verifier and cosine: signals of the confidence. Pure.

A verifier is surest, rightly and wrongly, of questions that share nearly all words: there a light
edit and a near miss look alike. So the same logit means less the more words are shared, unless they
stand in another order, and more in longer questions.

Source: longest common subsequence by bits, Hyyro 2004, "Bit-parallel LCS-length computation
revisited".
"""

import math
from collections.abc import Sequence
from typing import Final

from nearhit.guards.wording import words

NAMES: Final = ("overlap", "two_words", "length", "moved")
_MOST: Final = 200  # words that are looked at


def signals(stored: str, asked: str) -> tuple[float, ...]:
    """Return the signals, in the order of `NAMES`, the same for both orders of the questions.

    ``overlap`` is the share of all words that both have, ``two_words`` 1 where each has at most two
    that the other lacks and one has two, ``length`` the logarithm of the words of the shorter,
    ``moved`` the share of the common words that stand in another order, times the overlap.
    """
    one, other = words(stored)[:_MOST], words(asked)[:_MOST]
    ours, theirs = set(one), set(other)
    both = ours & theirs
    overlap = len(both) / max(1, len(ours | theirs))
    apart = max(len(ours - theirs), len(theirs - ours))
    kept, kept_too = ([word for word in some if word in both] for some in (one, other))
    common = len(kept) + len(kept_too)
    moved = 1 - 2 * _common_subsequence(kept, kept_too) / common if common else 0.0
    length = math.log(max(3, min(len(one), len(other))))
    return (overlap, float(apart == 2), length, moved * overlap)


def _common_subsequence(one: Sequence[str], other: Sequence[str]) -> int:
    """Return the length of the longest sequence of words that both have in this order."""
    places: dict[str, int] = {}
    for place, word in enumerate(one):
        places[word] = places.get(word, 0) | 1 << place
    every = left = (1 << len(one)) - 1
    for word in other:
        found = left & places.get(word, 0)
        left = ((left + found) | (left - found)) & every
    return len(one) - left.bit_count()
