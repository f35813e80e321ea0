"""Order: the same words, two of them exchanged or with another operator, ask something else.

"log2(x) = 5" and "log2(5) = x", a teacher who wants to become a nurse and a nurse who wants to
become a teacher, "x - 5" and "x + 5". A verifier sees almost the same in both. They differ where
two pieces of the text have changed places around something that stayed. A clause that moved to the
other end has not, and what stands beside "and", "or" or "differ from" may be exchanged.
"""

import re
from functools import lru_cache
from typing import Final

_WORD: Final = re.compile(r"[^\W_]+|(?<=\s)[=<>+*/^](?=\s)")
# Words that come and go without changing anything.
_LIGHT: Final = frozenset(
    {"a", "an", "the", "please", "my", "your", "just", "so", "some", "this", "that", "is", "are"}
)
_EVEN: Final = frozenset({"and", "or", "vs", "versus", "differ", "different", "when"})
_BESIDE: Final = 3  # words between what stands beside such a word
_MOST: Final = 120  # words looked at
_LONGEST: Final = 4000  # characters looked at
_OPERATOR: Final = re.compile(r"(?<=[\s\d)])[-+*/=<>^%](?=[\s\d(\[{])")
_DATE: Final = re.compile(r"\b\d{1,4}([-/])\d{1,2}\1\d{1,4}\b")  # written in several ways
_SYMBOL: Final = re.compile(r"[-+*/=<>^%()\[\]{}]")


def order(stored: str, asked: str) -> bool:
    """Whether the questions are the same words with two pieces exchanged, or another operator."""
    one, two = _words(stored), _words(asked)
    if list(filter(str.isalnum, one)) == list(filter(str.isalnum, two)):
        return _has_other_operator(stored[:_LONGEST], asked[:_LONGEST])
    if len(one) != len(two) or sorted(one) != sorted(two):
        return False
    while one and one[0] == two[0]:
        one, two = one[1:], two[1:]
    while one and one[-1] == two[-1]:
        one, two = one[:-1], two[:-1]
    return _is_exchange(one, two)


@lru_cache(maxsize=1024)
def _words(text: str) -> tuple[str, ...]:
    """Return the words that matter, in their order and in lower case."""
    found = (word for word in _WORD.findall(text[:_LONGEST].lower()) if word not in _LIGHT)
    return tuple(word for word, _ in zip(found, range(_MOST), strict=False))


def _is_exchange(one: tuple[str, ...], two: tuple[str, ...]) -> bool:
    """Whether one is `u m v` and the other `v m u`, m not empty."""
    length = len(one)
    for head in range(1, length - 1):
        if two[length - head :] != one[:head]:
            continue
        for tail in range(1, length - head):
            middle = one[head : length - tail]
            if (
                two[:tail] == one[length - tail :]
                and two[tail : length - head] == middle
                and (len(middle) > _BESIDE or _EVEN.isdisjoint(middle))
            ):
                return True
    return False


def _has_other_operator(stored: str, asked: str) -> bool:
    """Whether both hold a formula, with other operators or brackets."""
    one, two = (_DATE.sub(" ", text) for text in (stored, asked))
    is_formula = _OPERATOR.search(one) and _OPERATOR.search(two)
    return bool(is_formula) and _SYMBOL.findall(one) != _SYMBOL.findall(two)
