"""Labelled questions in JSON lines, told by their fields.

    groups    {"query", "paraphrases": [text], "near_misses": [{"text"} or text]}
    clusters  {"query", "cluster"}                 texts of one cluster are interchangeable
    pairs     {"a", "b", "label": 1 or 0}
    triplets  {"anchor", "positive", "negative"}

Any row may say its `domain`, a group its `id`; other fields are left alone.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

from nearhit.errors import ConfigError
from nearhit_eval.rows import read_rows, text_in


@dataclass(frozen=True, slots=True)
class Group:
    """A query, what means the same and what only looks the same."""

    query: str
    paraphrases: tuple[str, ...]
    near_misses: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Member:
    """A question and the cluster it belongs to."""

    query: str
    cluster: str


@dataclass(frozen=True, slots=True)
class Pair:
    """Two questions, and whether one answer serves both."""

    a: str
    b: str
    is_same: bool


@dataclass(frozen=True, slots=True)
class Triplet:
    """A question, one that means the same and one that does not."""

    anchor: str
    positive: str
    negative: str


Labelled: TypeAlias = Group | Member | Pair | Triplet


@dataclass(frozen=True, slots=True)
class LabelledRow:
    """One line: its number, what it says, and the domain that it names, if any."""

    number: int
    content: Labelled
    domain: str | None


def read_labelled(path: Path) -> Iterator[LabelledRow]:
    """Yield the rows of a file.

    Raises:
        ConfigError: the file cannot be read, a line is of no known kind, a text is none, or an id
            occurs twice.
    """
    lines: dict[str, int] = {}
    for number, row in read_rows(path):
        place = f"{path}:{number}"
        if "id" in row:
            before = lines.setdefault(str(row["id"]), number)
            if before != number:
                raise ConfigError(
                    f"{place} must have an id of its own, got {row['id']!r} of line {before} "
                    f"again; rename one or leave it out"
                )
        domain = text_in(row, "domain", place) if row.get("domain") is not None else None
        yield LabelledRow(number, _read(row, place), domain)


def _read(row: Mapping[str, Any], place: str) -> Labelled:
    if "paraphrases" in row:
        near = [
            miss.get("text") if isinstance(miss, dict) else miss
            for miss in _list_in(row, "near_misses", place)
        ]
        return Group(
            text_in(row, "query", place),
            _texts("paraphrases", _list_in(row, "paraphrases", place), place),
            _texts("near_misses", near, place),
        )
    if "cluster" in row:
        return Member(text_in(row, "query", place), str(row["cluster"]))
    if "label" in row:
        if row["label"] not in (0, 1):
            raise ConfigError(f"{place} label must be 1 or 0, got {row['label']!r}; mend the line")
        return Pair(text_in(row, "a", place), text_in(row, "b", place), bool(row["label"]))
    if "anchor" in row:
        return Triplet(*(text_in(row, name, place) for name in ("anchor", "positive", "negative")))
    raise ConfigError(
        f"{place} must be a group, cluster, pair or triplet, got fields {sorted(row)}; see --help"
    )


def _list_in(row: Mapping[str, Any], name: str, place: str) -> list[Any]:
    value = row.get(name)
    if not isinstance(value, list):
        raise ConfigError(
            f"{place} {name} must be a list, got {type(value).__name__}; mend the line"
        )
    return value


def _texts(name: str, values: list[Any], place: str) -> tuple[str, ...]:
    return tuple(text_in({name: value}, name, place) for value in values)
