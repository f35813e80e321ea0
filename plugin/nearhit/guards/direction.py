"""The same two things the other way round: from A to B, A before B, who does what to whom.

Reads small steps (a thing, what leads over, a thing) and vetoes where one question has a step whose
reverse the other has. What leads over is a word of direction (to, into, before, than), or a verb
with a person on one of its sides ("can I sue my landlord", "can my landlord sue me"), or one of a
few verbs that are not done mutually (causes). Order alone says nothing: "python list sort" is "sort
list python", and "A or B" is "B or A".
"""

from collections.abc import Iterator, Sequence
from functools import lru_cache
from typing import Final

from nearhit.guards.wording import FUNCTION_WORDS, REMEMBERED, inflected, listed, stem, words

_TARGET: Final = listed("to into onto")
_LEADING: Final = listed("before after than over above below instead without causes")
_APART: Final = listed("and or vs versus with between but if when while because as for")
_MUTUAL: Final = listed(
    "and or vs versus between with relationship differ differs similar same far"
)
_SHORTEST_SWAP: Final = 4  # words; fewer are keywords, in any order
_ARTICLES: Final = listed("a an the please")
_PERSONS: Final = {
    form: person
    for person, forms in (
        ("i", "i me i'm i've"),
        ("he", "he him"),
        ("she", "she"),
        ("we", "we us"),
        ("they", "they them"),
    )
    for form in forms.split()
}
_ONE_WAY: Final = inflected(
    listed(
        "cause trigger sue owe pay hire call invoke import include contain beat kill infect follow "
        "precede refer report replace inherit extend own lend affect influence predict"
    )
)
_REACH: Final = 2  # words on each side of a word of direction
_FAR: Final = 8  # words between "to" and "from"

_Step = tuple[str, str, str]


def direction(stored: str, asked: str) -> bool:
    """Whether one has two things the other way round than the other."""
    return _is_reversed(stored, asked) or _is_swapped(stored, asked)


def _is_reversed(stored: str, asked: str) -> bool:
    ours, theirs = _steps(stored), _steps(asked)
    if not ours or not theirs:
        return False
    return any(
        (y, over, x) in theirs and (x, over, y) not in theirs and (y, over, x) not in ours
        for x, over, y in ours
        if x != y
    )


@lru_cache(maxsize=REMEMBERED)
def _steps(text: str) -> frozenset[_Step]:
    found = words(text)
    return frozenset(_leading(found)) | frozenset(_acting(found))


def _leading(found: Sequence[str]) -> Iterator[_Step]:
    """Yield the steps over words of direction."""
    for place, word in enumerate(found):
        if word in _TARGET:
            targets = _things(found, place + 1, 1)
            sources = [*_things(found, place - 1, -1), *_from(found, place)]
            yield from ((x, "to", y) for x in sources for y in targets)
        elif word in _LEADING:
            for x in _things(found, place - 1, -1):
                yield from ((x, word, y) for y in _things(found, place + 1, 1))


def _from(found: Sequence[str], place: int) -> Iterator[str]:
    """Yield the things that follow the "from" nearest to a "to"."""
    for distance in range(1, _FAR + 1):
        for other in (place - distance, place + distance):
            if 0 <= other < len(found) and found[other] == "from":
                yield from _things(found, other + 1, 1)
                return


def _things(found: Sequence[str], start: int, way: int) -> Iterator[str]:
    """Yield the next words of meaning in one way, up to a word that leads on."""
    count, place = 0, start
    while 0 <= place < len(found) and count < _REACH:
        word = found[place]
        if word in _TARGET or word in _LEADING or word in _APART or word == "from":
            return
        if word not in FUNCTION_WORDS:
            count += 1
            yield stem(word)
        place += way


def _is_swapped(stored: str, asked: str) -> bool:
    """Whether two words have changed places and all others stand where they stood."""
    ours, theirs = _order(stored), _order(asked)
    if len(ours) != len(theirs) or len(ours) < _SHORTEST_SWAP:
        return False
    moved = [place for place, (a, b) in enumerate(zip(ours, theirs, strict=True)) if a != b]
    if len(moved) != 2:
        return False
    first, second = moved
    is_mutual = second == first + 1 or any(w in _MUTUAL for w in ours[:second])
    return ours[first] == theirs[second] and ours[second] == theirs[first] and not is_mutual


@lru_cache(maxsize=REMEMBERED)
def _order(text: str) -> tuple[str, ...]:
    return tuple(stem(_PERSONS.get(w, w)) for w in words(text) if w not in _ARTICLES)


def _acting(found: Sequence[str]) -> Iterator[_Step]:
    """Yield the steps over verbs."""
    kept: list[str] = []
    for word in found:
        if word in _PERSONS:
            kept.append(_PERSONS[word])
        elif word == "by" and kept:
            kept[-1] += " by"
        elif word in _APART or word in _TARGET:
            kept.append("")
        elif word not in FUNCTION_WORDS:
            kept.append(word)
    people = frozenset(_PERSONS.values())
    for x, over, y in zip(kept, kept[1:], kept[2:], strict=False):
        is_one_way = x in people or y in people or over.removesuffix(" by") in _ONE_WAY
        if x and over and y and over not in people and is_one_way:
            yield (stem(x), stem(over), stem(y))
