"""Payload: the text that an instruction is about must be the same.

"Translate to German: good morning" and "Translate to German: good night" differ in one word and in
everything that matters. A payload is what stands in a code block, in long quotes, or behind the
colon or the line break of an instruction. It differs where each side has a word of four letters or
more that is no other spelling of a word of the other side.
"""

import re
from difflib import get_close_matches
from functools import lru_cache
from typing import Final

_VERBS: Final = (
    "translate|summarise|summarize|rewrite|rephrase|paraphrase|proofread|correct|fix|debug|"
    "classify|convert|extract|shorten|simplify|edit|polish|improve|format|sort|count|list|tag|label|"
    "parse|refactor|review|annotate|transcribe|condense|turn|make|put|render|reword|check"
)
_INSTRUCTION: Final = re.compile(rf"\b(?:{_VERBS})", re.IGNORECASE)
_FENCE: Final = re.compile(r"```(?:[\w+-]{0,20}\n)?(.{1,4000}?)```", re.DOTALL)
_QUOTED: Final = re.compile(
    r"[\"\u201c\u00ab]([^\"\u201c\u201d\u00ab\u00bb]{12,4000})[\"\u201d\u00bb]"
)
_WORD: Final = re.compile(r"\w+")
_FEWEST: Final = 3  # words of a payload
_SHORTEST: Final = 4  # letters of a word that matters; numbers have a guard of their own
_LIKE: Final = 0.7  # practised, practiced
_LONGEST: Final = 8000  # characters looked at


def differ(stored: str, asked: str) -> bool:
    """Whether both questions carry a payload and these are not the same."""
    one, two = _payload(stored[:_LONGEST]), _payload(asked[:_LONGEST])
    if not one or not two:
        return False
    gone, new = set(one) - set(two), set(two) - set(one)
    return _has_other(gone, new) and _has_other(new, gone)


def _has_other(words: set[str], others: set[str]) -> bool:
    """Whether a word is neither short nor another spelling of one on the other side."""
    return any(
        len(word) >= _SHORTEST and not get_close_matches(word, others, 1, _LIKE) for word in words
    )


@lru_cache(maxsize=1024)
def _payload(text: str) -> tuple[str, ...]:
    if not _INSTRUCTION.search(text):
        return ()
    for pattern in (_FENCE, _QUOTED):
        found = pattern.findall(text)
        if found:
            return _words(max(found, key=len))
    for mark in (":\n", "\n", ": "):
        before, _, after = text.partition(mark)
        if after and _INSTRUCTION.search(before):
            return _words(after)
    return ()


def _words(text: str) -> tuple[str, ...]:
    words = tuple(_WORD.findall(text.lower()))
    return words if len(words) >= _FEWEST else ()
