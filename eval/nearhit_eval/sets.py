"""Sets of questions with known answers, and how other formats become one.

A set is JSON: ``{"store": [[key, text], ...], "probes": [[key or null, text], ...]}``. A probe
with a key must be answered by that entry, one with null by nothing.

`convert` makes one of JSON lines of groups, clusters, pairs or triplets, see `labelled`.
"""

import json
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nearhit.errors import ConfigError
from nearhit_eval.labelled import Group, Member, Pair, Triplet, read_labelled


@dataclass(frozen=True, slots=True)
class QuestionSet:
    """Stored questions by key, and probes with the key that answers them.

    Attributes:
        name: of the set.
        store: key and text, keys unique.
        probes: key or None, and text.
    """

    name: str
    store: tuple[tuple[str, str], ...]
    probes: tuple[tuple[str | None, str], ...]

    @property
    def must_hit(self) -> int:
        """How many probes have an answer in the store."""
        return sum(key is not None for key, _ in self.probes)


def read_set(path: Path) -> QuestionSet:
    """Read a set and check it.

    Raises:
        ConfigError: naming the file, the place in it and the remedy.
    """
    try:
        document = json.loads(path.read_text("utf-8"))
    except OSError as error:
        raise ConfigError(f"{path} must be a readable file; check the path") from error
    except ValueError as error:
        raise ConfigError(
            f"{path} must be JSON {{'store': ..., 'probes': ...}}, got {error}; JSON lines of "
            f"groups, clusters, pairs or triplets are turned into it by --convert"
        ) from error
    if not isinstance(document, dict) or not {"store", "probes"} <= document.keys():
        raise ConfigError(f"{path} must be an object with store and probes; see --help")
    store = _rows(path, document, "store", nullable=False)
    probes = _rows(path, document, "probes", nullable=True)
    known: set[str | None] = set()
    for index, (key, text) in enumerate(store):
        if key in known:
            raise ConfigError(
                f"{path} store[{index}] must have a key of its own, got {key!r} again"
            )
        if not text.strip():
            raise ConfigError(f"{path} store[{index}] must not be blank; leave it out")
        known.add(key)
    for index, (key, _) in enumerate(probes):
        if key is not None and key not in known:
            raise ConfigError(
                f"{path} probes[{index}] must name a key of store or null, got {key!r}; mend it"
            )
    if not store or not probes:
        raise ConfigError(f"{path} must hold at least one store entry and one probe, got none")
    if len({key is None for key, _ in probes}) < 2:
        raise ConfigError(
            f"{path} must hold probes of both kinds, with a key and with null, got one kind only; "
            f"recall and wrong share mean nothing otherwise"
        )
    named = [(key, text) for key, text in store if key is not None]
    return QuestionSet(path.stem, tuple(named), tuple(probes))


def _rows(
    path: Path, document: Mapping[str, Any], name: str, *, nullable: bool
) -> list[tuple[str | None, str]]:
    given = document[name]
    if not isinstance(given, list):
        raise ConfigError(f"{path} {name} must be a list, got {type(given).__name__}; mend it")
    rows: list[tuple[str | None, str]] = []
    for index, row in enumerate(given):
        if not isinstance(row, list) or len(row) != 2 or not isinstance(row[1], str):
            raise ConfigError(f"{path} {name}[{index}] must be [key, text], got {row!r}; mend it")
        key = row[0]
        if isinstance(key, bool | float | list | dict) or (key is None and not nullable):
            raise ConfigError(f"{path} {name}[{index}] must have a text key, got {key!r}; mend it")
        rows.append((None if key is None else str(key), row[1]))
    return rows


def convert(paths: Sequence[Path], name: str, seed: int) -> QuestionSet:
    """Make a set of JSON lines; half of what could be stored is left out, so that probes miss.

    Groups: the query is stored for half of them; probes are all paraphrases, which must hit only
    where the query is stored, and all near misses, which never may. Clusters: one member stored for
    half of them. Pairs and triplets: the first text stored, the other asked; of pairs whose texts
    are linked by more than one label only the first is used.

    Raises:
        ConfigError: a line is of no known kind, or there is nothing to convert.
    """
    rng = random.Random(seed)  # noqa: S311 - a seeded draw
    store: dict[str, str] = {}
    probes: list[tuple[str | None, str]] = []
    clusters: dict[str, list[str]] = {}
    for path in paths:
        for row in read_labelled(path):
            key = f"{path.stem}-{row.number}"
            match row.content:
                case Group():
                    _add_group(row.content, key, rng, store, probes)
                case Member(query, cluster):
                    clusters.setdefault(f"{path.stem}-{cluster}", []).append(query)
                case Pair(a, b, is_same):
                    store[key] = a
                    probes.append((key if is_same else None, b))
                case Triplet(anchor, positive, negative):
                    store[key] = anchor
                    probes += [(key, positive), (None, negative)]
    for key, texts in sorted(clusters.items()):
        _add_cluster(key, texts, rng, store, probes)
    if not store or not probes:
        raise ConfigError(f"--convert must be given rows, got none in {[str(p) for p in paths]}")
    store, probes = _one_entry_a_text(store, probes)
    return QuestionSet(name, tuple(store.items()), tuple(probes))


def _add_group(
    group: Group,
    key: str,
    rng: random.Random,
    store: dict[str, str],
    probes: list[tuple[str | None, str]],
) -> None:
    is_stored = rng.random() < 0.5
    if is_stored:
        store[key] = group.query
    probes += [(key if is_stored else None, text) for text in group.paraphrases]
    probes += [(None, text) for text in group.near_misses]


def _add_cluster(
    key: str,
    texts: Sequence[str],
    rng: random.Random,
    store: dict[str, str],
    probes: list[tuple[str | None, str]],
) -> None:
    unique = sorted(set(texts))
    rng.shuffle(unique)
    is_stored = rng.random() < 0.5
    if is_stored:
        store[key] = unique[0]
    probes += [(key if is_stored else None, text) for text in unique[1:6]]


def _one_entry_a_text(
    store: Mapping[str, str], probes: Sequence[tuple[str | None, str]]
) -> tuple[dict[str, str], list[tuple[str | None, str]]]:
    """Keep one entry of equal texts, and drop probes whose answer the store contradicts.

    A text that two rows store is one entry; a probe that is stored itself must hit that entry.
    """
    owner: dict[str, str] = {}
    same: dict[str, str] = {}
    for key, text in store.items():
        same[key] = owner.setdefault(" ".join(text.lower().split()), key)
    kept: list[tuple[str | None, str]] = []
    for wanted, text in probes:
        stored = owner.get(" ".join(text.lower().split()))
        wanted = None if wanted is None else same[wanted]
        if stored is None or stored == wanted:
            kept.append((wanted, text))
    return {key: text for key, text in store.items() if same[key] == key}, kept
