r"""Split groups into train, dev and test, so that no topic stands on two sides.

    nearhit-train split --groups groups/ --out split.json --seed 7

A group goes where its topic goes: groups that share a topic (whatever its case, punctuation and
order of words) or any text are one unit. Which side a unit falls on is a hash of the seed and its
smallest id, so that adding groups moves no unit that it does not join.
"""

import argparse
import hashlib
import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from nearhit.errors import ConfigError
from nearhit_training.data import Group, normal, read_groups, sha256_texts
from nearhit_training.files import write_json

SIDES: Final = ("train", "dev", "test")
_SHARE: Final = {"dev": 0.1, "test": 0.1}


@dataclass(frozen=True, slots=True)
class Split:
    """Groups by side."""

    train: tuple[Group, ...]
    dev: tuple[Group, ...]
    test: tuple[Group, ...]
    seed: int

    def digests(self) -> dict[str, str]:
        """Return the sha256 of each side's texts."""
        return {
            side: sha256_texts(text for group in getattr(self, side) for text in group.texts)
            for side in SIDES
        }


def split_groups(groups: Sequence[Group], seed: int) -> Split:
    """Put each unit of topics on one side."""
    sides: dict[str, list[Group]] = {side: [] for side in SIDES}
    for unit in _units(groups):
        digest = hashlib.sha256(f"{seed}:{min(group.id for group in unit)}".encode()).digest()
        draw = int.from_bytes(digest[:8]) / 2**64
        if draw < _SHARE["dev"]:
            side = "dev"
        elif draw < _SHARE["dev"] + _SHARE["test"]:
            side = "test"
        else:
            side = "train"
        sides[side] += unit
    return Split(tuple(sides["train"]), tuple(sides["dev"]), tuple(sides["test"]), seed)


def read_split(path: Path, groups: Sequence[Group]) -> Split:
    """Read a split back and check that the groups are those that were split.

    Raises:
        ConfigError: the groups have changed since.
    """
    kept = json.loads(path.read_text("utf-8"))
    by_id = {group.id: group for group in groups}
    try:
        sides = {side: tuple(by_id[id_] for id_ in kept["ids"][side]) for side in SIDES}
        split = Split(**sides, seed=kept["seed"])
    except KeyError as error:
        raise ConfigError(
            f"{path} must split the given groups, got none for {error}; split them again"
        ) from error
    if split.digests() != kept["sha256"]:
        raise ConfigError(f"{path} must split the given groups, got other texts; split them again")
    return split


def main(argv: Sequence[str] | None = None) -> int:
    """Write the split and print its counts."""
    parser = argparse.ArgumentParser(prog="nearhit-train split", description=__doc__)
    parser.add_argument("--groups", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--seed", type=int, default=7)
    options = parser.parse_args(argv)
    save_split(split_groups(read_groups(options.groups), options.seed), options.out)
    return 0


def save_split(split: Split, path: Path) -> None:
    """Write ids and hashes, and print how many groups of each domain are where."""
    ids = {side: [group.id for group in getattr(split, side)] for side in SIDES}
    write_json(path, {"seed": split.seed, "sha256": split.digests(), "ids": ids})
    for side in SIDES:
        counts = Counter(group.part for group in getattr(split, side))
        print(f"{side:<6} {len(ids[side]):>5} groups", dict(sorted(counts.items())))


def _units(groups: Sequence[Group]) -> list[list[Group]]:
    """Join groups that share a topic or a text."""
    parent = list(range(len(groups)))

    def root(index: int) -> int:
        while parent[index] != index:
            parent[index] = parent[parent[index]]
            index = parent[index]
        return index

    first: dict[str, int] = {}
    for index, group in enumerate(groups):
        topic = "topic: " + " ".join(sorted(normal(group.topic).split()))
        for key in (topic, *(normal(text) for text in group.texts)):
            if key:
                parent[root(index)] = root(first.setdefault(key, index))
    units: dict[int, list[Group]] = {}
    for index, group in enumerate(groups):
        units.setdefault(root(index), []).append(group)
    return list(units.values())
