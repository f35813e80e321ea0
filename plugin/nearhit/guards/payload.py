"""Another payload: the text that an instruction is about (translate, proofread, summarise this).

A payload is a long quotation, a fenced block of code, or what follows the colon or line break of an
instruction that keeps to the letter of a text (translate, proofread). Vetoes where each question
has a payload whose letters and digits do not occur in the other; blanks and quotes do not count.
Shorter quotations, and notes after a colon that may be reworded, forbid nothing here: measured,
duplicates reword them as often as near misses do.
"""

import re
from collections.abc import Iterator
from functools import lru_cache
from typing import Final

from nearhit.guards.wording import REMEMBERED, plain, squashed

_LEAST_WORDS: Final = 6
_LEAST_AFTER_COLON: Final = 3
_FENCED: Final = re.compile(r"```([^`]*)```")
_QUOTED: Final = re.compile(r'"([^"]*)"')
_OPENING: Final = re.compile(r"[:\n]")
_TO_THE_LETTER: Final = re.compile(
    r"\b(?:translat|proofread|transcrib|spell|grammar|correct (?:this|the|my)|translit|decode)",
    re.IGNORECASE,
)


def payload(stored: str, asked: str) -> bool:
    """Whether each is about a given text that does not occur in the other."""
    (ours, our_text), (theirs, their_text) = _payloads(stored), _payloads(asked)
    return any(one not in their_text for one in ours) and any(one not in our_text for one in theirs)


@lru_cache(maxsize=REMEMBERED)
def _payloads(text: str) -> tuple[tuple[str, ...], str]:
    """Return the payloads of a text and the text itself, both squashed."""
    looked_at = plain(text)
    return tuple(map(squashed, _found(looked_at))), squashed(looked_at)


def _found(text: str) -> Iterator[str]:
    yield from _FENCED.findall(text)
    quoted = [found for found in _QUOTED.findall(text) if len(found.split()) >= _LEAST_WORDS]
    yield from quoted
    opening = _OPENING.search(text)
    if opening and not quoted and _TO_THE_LETTER.search(text, 0, opening.start()):
        rest = text[opening.end() :]
        if len(rest.split()) >= _LEAST_AFTER_COLON:
            yield rest
