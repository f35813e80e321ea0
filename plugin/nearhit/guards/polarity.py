"""The opposite: enable and disable, before and after, with and without, does and does not.

Antonyms: vetoes where one question has a word of one side and none of the other side, and the other
question the reverse; or where one word in all is another, and is its opposite. Left out are pairs
about which one answer serves both ("is it safe?", "is it unsafe?"; legal, possible, better):
measured, they cost about as many duplicates as they save.

Negation: vetoes where one question is negated, the other is not, and at most one other word of
meaning differs. Only then: people ask "why can't I log in" also as "log-in fails".
"""

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from functools import lru_cache
from typing import Final

from nearhit.guards.wording import (
    FUNCTION_WORDS,
    REMEMBERED,
    inflected,
    listed,
    plain,
    shares_words,
    stem,
    words,
)

# A word may stand on several lines; words on one side of a line are taken for synonyms.
_ANYWHERE: Final = """
enable activate | disable deactivate
increase raise boost | decrease reduce lower diminish
rise rose risen | fall fell fallen drop
gain | lose lost losing
higher | lower
highest | lowest
high | low
add | remove drop delete subtract
install | uninstall remove
open | close
block | unblock allow
accept approve | reject refuse decline deny
grant | revoke deny
import | export
encrypt encode | decrypt decode
compress zip | decompress unzip extract
mount | unmount umount
connect | disconnect
subscribe | unsubscribe
follow | unfollow
hide | show unhide reveal
upload | download
upgrade | downgrade
push | pull
commit | uncommit
merge | split
expand | collapse shrink
lend lent | borrow
win won winning | lose lost losing
pass | fail
agree | disagree
maximum max maximize maximise | minimum min minimize minimise
most | least
more | less fewer
longest | shortest
longer | shorter
bigger larger biggest largest | smaller smallest
newest latest | oldest
older | younger
oldest | youngest
faster fastest | slower slowest
hot | cold
internal | external
positive | negative
advantage benefit pro | disadvantage drawback con
plaintiff claimant | defendant
civil | criminal
temporary | permanent
acute | chronic
full | empty
first | last
yes | no
best | worst
true | false
eastern east | western west
northern north | southern south
vertical | horizontal
success succeed | failure fail
remember | forget forgot
improve | worsen
benefit | harm
wake | sleep
create | destroy delete
synchronous sync | asynchronous async
static | dynamic
client | server
inpatient | outpatient
soft | hard
formal | informal
cheap cheapest | expensive
sender | recipient
input | output
credit | debit
federal | state
sensitivity | specificity
agonist | antagonist
"""

# Words of many uses: only where the word before or after is the same in both questions.
_BESIDE: Final = """
before prior | after
start begin began begun | stop end finish quit
allow permit let | forbid prevent ban prohibit refuse
lock | unlock
buy bought purchase | sell sold
inside indoors indoor | outside outdoors outdoor
public | private
mandatory compulsory required | optional voluntary
male man men boy | female woman women girl
ascending | descending
early earlier | late later
attach | detach
help | harm hinder worsen
cause trigger | prevent relieve
grant | cancel revoke discharge
hire employ recruit | fire dismiss sack
love | hate dislike
left | right
up | down
always | never
row | column
read | write
send sent | receive
keep | change discard
local | remote global
minor | adult major
single unmarried | married
long | short
strong stronger | weak weaker
light | dark
"""

# Little words: only where the words before and after are the same.
_BETWEEN: Final = """
on | off
with | without
in | out
over above | under below
"""


def _sides(lines: str) -> tuple[tuple[frozenset[str], frozenset[str]], ...]:
    pairs = (line.split(" | ") for line in lines.strip().splitlines())
    return tuple((inflected(one.split()), inflected(other.split())) for one, other in pairs)


_LEVELS: Final = ((0, _sides(_ANYWHERE)), (1, _sides(_BESIDE)), (2, _sides(_BETWEEN)))
_LINES: Final = tuple((least, sides) for least, lines in _LEVELS for sides in lines)

_NEGATIONS: Final = listed(
    "not no never without cannot neither none nobody nothing nor dont cant isnt doesnt didnt wont "
    "wasnt havent hasnt arent couldnt shouldnt wouldnt aint unable"
)
_OTHER_CONTENT: Final = 1
# Said of the asker, or no negation at all.
_IDIOM: Final = re.compile(
    r"\b(?:yes or no|true or false|why or why not|whether or not|or not|if not|not only|no idea"
    r"|do(?:n't| not|nt) (?:know|understand|get) (?:how|why|what|if|whether)|not sure|yet)\b"
)
_RHETORICAL: Final = re.compile(
    r"(?:^|[.?!]\s)\s*(?:is|are|was|were|do|does|did|has|have|could|should|would)n'?t\b"
)
_YES_OR_NO: Final = listed("is are was were do does did has have can could should would will may")
_FRONT: Final = 4  # words of a yes-or-no question in which "not" leaves the question the same


_PREFIX: Final = re.compile(r"(?:un|dis|in|im|ir|ab|hyper)(?=[a-z]{4})")
_ONE_ANSWER: Final = listed("safe lawful usual possible common able stall form side deed valid")


def polarity(stored: str, asked: str) -> bool:
    """Whether one asks for the opposite of the other."""
    is_opposite = (
        _is_opposed(stored, asked) or _is_prefixed(stored, asked) or _is_negated(stored, asked)
    )
    return (is_opposite and shares_words(stored, asked)) or _is_replaced(stored, asked)


def _is_replaced(stored: str, asked: str) -> bool:
    """Whether one word is another and its opposite, wherever either stands besides."""
    ours, theirs = Counter(words(stored)), Counter(words(asked))
    left, right = ours - theirs, theirs - ours
    if not left.total() == right.total() == 1:
        return False
    (one,), (other,) = left, right
    return any((line, not side) in _PLACES.get(other, ()) for line, side in _PLACES.get(one, ()))


def _is_opposed(stored: str, asked: str) -> bool:
    ours, theirs = _lines(stored), _lines(asked)
    is_turned = _negation(stored)[1] != _negation(asked)[1]  # "not accepted" is "rejected"
    for line, side in ours:
        if (line, not side) not in theirs or (line, not side) in ours or (line, side) in theirs:
            continue
        least, sides = _LINES[line]
        if is_turned and "without" not in sides[1]:
            continue
        if least == 0:
            return True
        shared = _beside(_joined(stored), sides[side]) & _beside(_joined(asked), sides[not side])
        if len(shared) >= least:
            return True
    return False


@lru_cache(maxsize=REMEMBERED)
def _lines(text: str) -> frozenset[tuple[int, bool]]:
    """Return line and side of every word that has an opposite."""
    return frozenset(place for word in _joined(text) for place in _PLACES.get(word, ()))


def _places() -> dict[str, tuple[tuple[int, bool], ...]]:
    places: dict[str, tuple[tuple[int, bool], ...]] = {}
    for line, (_, sides) in enumerate(_LINES):
        for side in (False, True):
            for word in sides[side]:
                places[word] = (*places.get(word, ()), (line, side))
    return places


_PLACES: Final = _places()


@lru_cache(maxsize=REMEMBERED)
def _joined(text: str) -> tuple[str, ...]:
    """Return the words of a text, "with no" made "without"."""
    found: list[str] = []
    for word in words(text):
        if word == "no" and found and found[-1] == "with":
            found[-1] = "without"
        else:
            found.append(word)
    return tuple(found)


def _beside(found: Sequence[str], side: frozenset[str]) -> set[tuple[int, str]]:
    """Return the words of meaning next to those of a side, each with where it stands."""
    beside = set()
    meaning = [word for word in found if word in side or word not in FUNCTION_WORDS]
    for place, word in enumerate(meaning):
        if word in side:
            before = meaning[place - 1] if place else ""
            after = meaning[place + 1] if place + 1 < len(meaning) else ""
            beside |= {(-1, stem(before)), (1, stem(after))}
    return beside


def _is_prefixed(stored: str, asked: str) -> bool:
    """Whether a word stands here as it is and there with a negating prefix, words beside alike."""
    ours, theirs = frozenset(words(stored)), frozenset(words(asked))
    left, right = ours - theirs, theirs - ours
    pairs = {*_prefixed(left, right), *((b, a) for a, b in _prefixed(right, left))}
    if not pairs or _negation(stored)[1] != _negation(asked)[1]:
        return False
    return any(
        _beside(_joined(stored), frozenset({a})) & _beside(_joined(asked), frozenset({b}))
        for a, b in pairs
    )


def _prefixed(ours: frozenset[str], theirs: frozenset[str]) -> Iterator[tuple[str, str]]:
    for word in ours:
        found = _PREFIX.match(word)
        if found is not None:
            rest = word[found.end() :]
            if rest in theirs and rest not in _ONE_ANSWER:
                yield word, rest
            if found.group() == "hyper" and f"hypo{rest}" in theirs:
                yield word, f"hypo{rest}"


def _is_negated(stored: str, asked: str) -> bool:
    (ours, is_ours_negated, is_ours_front) = _negation(stored)
    (theirs, is_theirs_negated, is_theirs_front) = _negation(asked)
    if is_ours_negated == is_theirs_negated or is_ours_front or is_theirs_front:
        return False
    return len(ours ^ theirs) <= _OTHER_CONTENT < len(ours | theirs)


@lru_cache(maxsize=REMEMBERED)
def _negation(text: str) -> tuple[frozenset[str], bool, bool]:
    """Return the words of meaning, whether they are negated, and whether that says nothing."""
    lowered = _RHETORICAL.sub(" ", _IDIOM.sub(" ", plain(text).lower()))
    found = words(lowered)
    negated = [n for n, word in enumerate(found) if word in _NEGATIONS or word.endswith("n't")]
    meaning = {w for n, w in enumerate(found) if n not in negated and w not in FUNCTION_WORDS}
    is_front = bool(negated) and found[0] in _YES_OR_NO and negated[0] <= _FRONT
    return frozenset(map(stem, meaning)), bool(negated), is_front
