"""Another literal: code, identifier, flag, file, address, placeholder or short quotation.

Vetoes where each question has a literal whose letters and digits do not occur in the other, in
whatever dress: `git push` is git push, "max_len" is max len. What only one of them has forbids
nothing, as people describe what they do not want to spell ("the method that flattens a list").
Where all letters and digits are equal, flags (-r, -R), signs, operators, quotations to the letter
('Polish', 'POLISH') and the indentation of lines still count.
"""

import re
from collections.abc import Iterator
from functools import lru_cache
from typing import Final

from nearhit.guards.wording import MAX_CHARACTERS, REMEMBERED, listed, plain, shares_words, squashed

_MOST_WORDS: Final = 3  # of a quotation; longer ones are reworded, or payloads
# A character without which there is no match, and the pattern.
_PATTERNS: Final = tuple(
    (character, re.compile(pattern))
    for character, pattern in (
        ("`", r"`([^`\n]{1,80})`"),
        ('"', r'"([^"\n]{1,60})"'),
        ("-", r"(?<![\w-])(--?[A-Za-z][\w-]{0,40})"),  # -rf, --force
        ("_", r"\b([A-Za-z0-9]{1,40}_\w{1,80})"),  # snake_case, ERROR_CODE
        ("", r"\b([a-z]{1,40}[A-Z]\w{1,80})"),  # camelCase
        (".", r"\b(\w{1,40}(?:\.[a-z_]\w{0,40}){1,6})"),  # dotted.name, file.txt, example.com
        ("(", r"\b([A-Za-z_]\w{1,80})\(\)"),
        ("/", r"(?<![\w:/])([~.]{0,2}/\w[\w./-]{1,120})"),  # /etc/hosts, ./run
        ("", r"\b([A-Z]{1,4}-?\d{3,})\b"),  # D-7781, E0502
    )
)
# Look like literals, and are what everybody says in other words, too.
_NAMES: Final = listed(
    """
    iphone iphones ipad ipados ios macos ebay node.js next.js vue.js react.js express.js d3.js
    three.js nuxt.js asp.net e.g i.e a.m p.m u.s u.k ph.d mmhg mmol pco2 mrna javascript
    """
)
_OPERATOR: Final = re.compile(r"(?<![=!<>+*&|^~-])[=!<>+*&|^~]{2,3}(?![=!<>+*&|^~-])")
_NO_OPERATORS: Final = listed("=> ** *** !! !!! <>")
# An apostrophe within a word or after it opens no quotation.
_QUOTATION: Final = re.compile(
    r"""`([^`\n]{1,80})`|"([^"\n]{1,80})"|(?<!\w)'([^'\n]{1,80})'(?!\w)"""
)
_INDENT: Final = re.compile(r"^([ \t]*)\S", re.MULTILINE)
_SIGN: Final = re.compile(r"(?<![\w+-])([+-][A-Za-z0-9])")


def literals(stored: str, asked: str) -> bool:
    """Whether each has a literal that does not occur in the other."""
    (ours, our_text), (theirs, their_text) = _literals(stored), _literals(asked)
    if our_text == their_text:
        return _signs(stored) != _signs(asked) or _differ_to_the_letter(stored, asked)
    is_different = _differ(_operators(stored), _operators(asked)) or (
        any(one not in their_text for one in ours) and any(one not in our_text for one in theirs)
    )
    return is_different and shares_words(stored, asked)


@lru_cache(maxsize=REMEMBERED)
def _literals(text: str) -> tuple[tuple[str, ...], str]:
    """Return the literals of a text and the text itself, both squashed."""
    looked_at = plain(text)
    return tuple(filter(None, map(squashed, _found(looked_at)))), squashed(looked_at)


def _found(text: str) -> Iterator[str]:
    for character, pattern in _PATTERNS:
        for found in pattern.findall(text) if character in text else ():
            if found.lower() not in _NAMES and found.count(" ") < _MOST_WORDS:
                yield found


def _differ_to_the_letter(stored: str, asked: str) -> bool:
    """Whether the same letters are quoted in another case or with other blanks, or indented."""
    for pattern in (_QUOTATION, _INDENT):
        ours, theirs = (pattern.findall(text[:MAX_CHARACTERS].strip()) for text in (stored, asked))
        if len(ours) == len(theirs) and ours != theirs:
            return True
    return False


def _differ(one: frozenset[str], other: frozenset[str]) -> bool:
    return not (one <= other or other <= one)


def _operators(text: str) -> frozenset[str]:
    return frozenset(_OPERATOR.findall(plain(text))) - _NO_OPERATORS


def _signs(text: str) -> tuple[list[str], list[str]]:
    """Return signs and operators in their order: one of two alike may be the one that differs."""
    looked_at = plain(text)
    operators = [found for found in _OPERATOR.findall(looked_at) if found not in _NO_OPERATORS]
    return _SIGN.findall(looked_at), operators
