"""Classes of questions whose answer changes, and patterns that no question can make slow. Pure.

Patterns are regular expressions, of which Python's
engine may try every way to match before it gives up: patterns with more ways than `MAX_WAYS` on
the part of a question that is searched are refused when the settings are read.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from re import _constants as op  # type: ignore[attr-defined]
from re import _parser  # type: ignore[attr-defined]
from typing import Any, Final

SEARCHED: Final = 500
"""Characters at the beginning, and as many at the end, of a question that are searched."""
MAX_WAYS: Final = 10 * SEARCHED
MAX_PATTERN: Final = 200

_REPEATS: Final = (op.MAX_REPEAT, op.MIN_REPEAT, op.POSSESSIVE_REPEAT)
_FLAGS: Final = re.IGNORECASE  # as in `request.freshness_rule`


@dataclass(frozen=True, slots=True)
class Rule:
    """One class of questions.

    Attributes:
        patterns: one of them matches a question of the class.
        ttl_s: most that an answer to one may be old; None: it is not cached.
    """

    patterns: tuple[re.Pattern[str], ...]
    ttl_s: int | None


def matching(text: str, rules: Iterable[Rule]) -> list[Rule]:
    """Return the rules that a question falls under, by its beginning and its end."""
    parts = {text[:SEARCHED], text[-SEARCHED:]}
    return [
        one
        for one in rules
        if any(pattern.search(part) for pattern in one.patterns for part in parts)
    ]


def check_pattern(pattern: str) -> str:
    """Return a pattern that is one, and cannot be made slow by any question.

    Raises:
        ValueError: the rule that it breaks.
    """
    if not 1 <= len(pattern) <= MAX_PATTERN:
        raise ValueError(f"of 1 to {MAX_PATTERN} characters a pattern")
    try:
        re.compile(pattern, _FLAGS)
        ways = _ways(_parser.parse(pattern, _FLAGS))
    except (re.error, RecursionError, OverflowError) as error:
        raise ValueError(f"regular expressions ({error})") from None
    if ways > MAX_WAYS:
        raise ValueError(
            f"regular expressions with one open repeat at most, none inside another and no back "
            f"reference ({pattern!r} could be made slow by a question; write {{0,40}} for *)"
        )
    return pattern


def _ways(parsed: Any) -> int:
    """Count the ways in which a parsed pattern may match at one place, up to `MAX_WAYS` + 1."""
    ways = 1
    for kind, argument in parsed:
        if kind in _REPEATS:
            least, most, repeated = argument
            most = min(most, SEARCHED)
            inner = _ways(repeated)
            ways *= max(1, most - least + 1)
            ways *= inner**most if inner == 1 or most <= 11 else MAX_WAYS + 1
        elif kind is op.BRANCH:
            ways *= sum(map(_ways, argument[1]))
        elif kind is op.SUBPATTERN:
            ways *= _ways(argument[-1])
        elif kind in (op.ASSERT, op.ASSERT_NOT):
            ways *= _ways(argument[1])
        elif kind is op.ATOMIC_GROUP:
            ways *= _ways(argument)
        elif kind in (op.GROUPREF, op.GROUPREF_EXISTS):
            return MAX_WAYS + 1
        ways = min(ways, MAX_WAYS + 1)
    return ways
