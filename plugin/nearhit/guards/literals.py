"""Literals: another identifier, file, flag, address or quoted string needs another answer.

A literal is what people copy rather than say: `code`, snake_case, camelCase, dotted.names, --flags,
ERROR_CODES, paths, URLs, e-mail addresses, ids such as D-7781. Where each question has one that the
other lacks, they ask about different things; and where the words are the same and an operator is
not ("x - 5", "x + 5"). Compared without case, quotes and brackets.
"""

import re
from functools import lru_cache
from typing import Final

_LITERAL: Final = re.compile(
    r"`([^`\n]{1,200})`"  # code
    r"|((?:https?://|www\.)[^\s)>\]]{1,300})"  # URL
    r"|([\w.+-]{1,64}@[\w-]{1,64}(?:\.[\w-]{1,64}){1,4})"  # e-mail address
    r"|((?<![\w-])--?[a-z][\w-]{1,40})"  # flag
    r"|(\b[a-z0-9]{1,40}(?:_[a-z0-9]{1,40}){1,8}\b)"  # snake_case
    r"|(\b[a-z_][\w]{0,40}(?:\.[a-z_]\w{1,40}){1,6}\b)"  # dotted.name
    r"|((?<!\w)[~.]{0,2}(?:/[\w.-]{1,64}){2,8})"  # path
    r"|(\b[A-Za-z]{1,6}-?\d[\d-]{2,20}\b)",  # id
    re.IGNORECASE,
)
_CAMEL: Final = re.compile(r"\b[a-z]{1,30}(?:[A-Z][a-z0-9]{1,30}){1,6}\b")
_OPERATOR: Final = re.compile(r"(?<=[\s\d)])[-+*/=<>^%](?=[\s\d(])")
_WORD: Final = re.compile(r"\w+")
_LONGEST: Final = 4000  # characters looked at


def differ(stored: str, asked: str) -> bool:
    """Whether each question has a literal that the other has not."""
    if _has_other_operator(stored[:_LONGEST], asked[:_LONGEST]):
        return True
    one, two = _literals(stored[:_LONGEST]), _literals(asked[:_LONGEST])
    return any(w not in asked.lower() for w in one - two) and any(
        w not in stored.lower() for w in two - one
    )


def _has_other_operator(stored: str, asked: str) -> bool:
    """Whether the words are the same and as many operators are not."""
    one, two = _OPERATOR.findall(stored), _OPERATOR.findall(asked)
    return (
        one != two
        and len(one) == len(two)
        and _WORD.findall(stored.lower()) == _WORD.findall(asked.lower())
    )


@lru_cache(maxsize=1024)
def _literals(text: str) -> frozenset[str]:
    found = {next(filter(None, groups)) for groups in _LITERAL.findall(text)}
    found |= set(_CAMEL.findall(text))
    return frozenset(literal.lower().strip(" .,;:?!()[]\"'") for literal in found)
