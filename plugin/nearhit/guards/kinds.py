"""Things of one kind that stand in for each other, by name. Pure; read by `entities` and `actors`.

A kind is a paragraph of names that exclude each other, separated by commas; a slash is between
synonyms. Where one question names one of them and the other another, the questions differ; a name
that only one of them has says nothing.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Final

from nearhit.guards.wording import listed

_Name = tuple[str, ...]
Table = Mapping[str, Mapping[_Name, Mapping[int, frozenset[str]]]]
"""First word of names: each name, longest first, with its kinds and what it counts as in each."""

# Words that are names only with a capital, and those that are names only in capitals.
_CAPITALISED: Final = listed(
    "turkey georgia go rust swift c r polish china edge signal teams oracle spring slack zoom "
    "flask windows safari julia ruby virginia excel outlook arch"
)
_CAPITALS: Final = listed("us")


def table(text: str) -> Table:
    """Read kinds, one a paragraph."""
    names: dict[_Name, dict[int, frozenset[str]]] = {}
    for kind, paragraph in enumerate(text.strip().split("\n\n")):
        for thing in paragraph.split(","):
            first, *others = (" ".join(name.split()) for name in thing.split("/"))
            for name in (first, *others):
                kinds = names.setdefault(tuple(name.split()), {})
                kinds[kind] = kinds.get(kind, frozenset()) | {first}
    found: dict[str, dict[_Name, dict[int, frozenset[str]]]] = {}
    for words in sorted(names, key=len, reverse=True):
        found.setdefault(words[0], {})[words] = names[words]
    return found


def named(cased: Sequence[str], names: Table) -> dict[int, set[frozenset[str]]]:
    """Return what words name, by kind, each once: a text may repeat a name a thousand times.

    Args:
        cased: the words as they are written.
        names: to look for; the longest that fits is taken.
    """
    found: dict[int, set[frozenset[str]]] = {}
    lowered = tuple(word.lower() for word in cased)
    taken = 0
    for place, word in enumerate(lowered):
        if word not in names or place < taken:
            continue
        for name, kinds in names[word].items():
            end = place + len(name)
            if lowered[place:end] == name and (len(name) > 1 or _is_name(cased[place])):
                for kind, counted in kinds.items():
                    found.setdefault(kind, set()).add(counted)
                taken = end
                break
    return found


def is_substituted(
    ours: Mapping[int, Iterable[frozenset[str]]], theirs: Mapping[int, Iterable[frozenset[str]]]
) -> bool:
    """Whether each names a thing of one kind that the other does not name."""
    return any(
        _lacks(ours[kind], theirs[kind]) and _lacks(theirs[kind], ours[kind])
        for kind in ours.keys() & theirs.keys()
    )


def _lacks(ours: Iterable[frozenset[str]], theirs: Iterable[frozenset[str]]) -> bool:
    return any(all(one.isdisjoint(other) for other in theirs) for one in ours)


def _is_name(word: str) -> bool:
    lowered = word.lower()
    if lowered in _CAPITALS:
        return word.isupper()
    return lowered not in _CAPITALISED or word != lowered
