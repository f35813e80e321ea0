r"""What each guard saves and costs: near misses vetoed against duplicates lost.

    python -m nearhit_eval.guards groups.jsonl pairs.jsonl
    python -m nearhit_eval.guards groups.jsonl --show 20 --guards polarity numbers

A file holds JSON lines of groups (query, paraphrases, near_misses), pairs (a, b, label), clusters
(query, cluster) or triplets (anchor, positive, negative). A group gives duplicates (query with
each paraphrase), near misses (query with each near miss) and further near misses (each paraphrase
with each near miss), counted apart. Of a cluster, neighbours in the file are duplicates.

Printed for each file and guard, and for all default guards together: the share of near misses
vetoed, the share of duplicates lost, the precision of a veto, and the median microseconds a pair
with both texts new to the guard. --show prints duplicates that were lost.
"""

import argparse
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Final

from nearhit.guards import DEFAULT, GUARDS, Guard, first_veto
from nearhit_eval.labelled import Group, Member, Pair, Triplet, read_labelled

_TIMED: Final = 300
_FORGOTTEN: Final = 50
_DUPLICATES, _NEAR, _FURTHER = "duplicates", "near misses", "further"


@dataclass(slots=True)
class Pairs:
    """The pairs of one file by kind."""

    path: str
    kinds: dict[str, list[tuple[str, str]]] = field(
        default_factory=lambda: {_DUPLICATES: [], _NEAR: [], _FURTHER: []}
    )


def main(argv: Sequence[str] | None = None) -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("files", type=Path, nargs="+", metavar="FILE.jsonl")
    parser.add_argument("--guards", nargs="+", choices=list(GUARDS), default=list(GUARDS))
    parser.add_argument("--show", type=int, nargs="?", const=10, default=0, metavar="N")
    options = parser.parse_args(argv)
    measured: dict[str, Guard] = {name: GUARDS[name] for name in options.guards}
    measured["default"] = by_default
    for path in options.files:
        pairs = read_pairs(path)
        sizes = ", ".join(f"{len(found)} {kind}" for kind, found in pairs.kinds.items() if found)
        print(f"\n{pairs.path}: {sizes}")
        print(f"{'guard':<12}{'near':>8}{'further':>9}{'lost':>8}{'precision':>11}{'us':>7}")
        for name, guard in measured.items():
            vetoed = {
                kind: [pair for pair in found if guard(*pair)]
                for kind, found in pairs.kinds.items()
            }
            _print_row(name, pairs, vetoed, microseconds(guard, pairs))
            if options.show and name != "default":
                for stored, asked in vetoed[_DUPLICATES][: options.show]:
                    print(f"    - {stored}\n      {asked}")
    return 0


def by_default(stored: str, asked: str) -> bool:
    """Whether one of the guards that are on by default vetoes."""
    return first_veto(stored, asked, DEFAULT) is not None


def read_pairs(path: Path) -> Pairs:
    """Read the pairs of a file.

    Raises:
        ConfigError: the file cannot be read, or a line is of no known kind.
    """
    pairs = Pairs(str(path))
    earlier: dict[str, str] = {}
    for row in read_labelled(path):
        match row.content:
            case Group():
                _add_group(row.content, pairs.kinds)
            case Member(query, cluster):
                if cluster in earlier:
                    pairs.kinds[_DUPLICATES].append((earlier[cluster], query))
                earlier[cluster] = query
            case Pair(a, b, is_same):
                pairs.kinds[_DUPLICATES if is_same else _NEAR].append((a, b))
            case Triplet(anchor, positive, negative):
                pairs.kinds[_DUPLICATES].append((anchor, positive))
                pairs.kinds[_NEAR].append((anchor, negative))
    return pairs


def microseconds(guard: Callable[[str, str], bool], pairs: Pairs) -> float:
    """Return the median time a pair takes when neither text was read before."""
    sample = [pair for found in pairs.kinds.values() for pair in found[:_TIMED]]
    spent = []
    for number, (stored, asked) in enumerate(sample):
        unread = " " * (number % _FORGOTTEN)  # another text to what remembers, the same to a guard
        stored, asked = stored + unread, asked + unread
        started = time.perf_counter_ns()
        guard(stored, asked)
        spent.append(time.perf_counter_ns() - started)
    return median(spent) / 1000 if spent else 0.0


def _add_group(group: Group, kinds: Mapping[str, list[tuple[str, str]]]) -> None:
    kinds[_DUPLICATES].extend((group.query, text) for text in group.paraphrases)
    kinds[_NEAR].extend((group.query, text) for text in group.near_misses)
    kinds[_FURTHER].extend((a, b) for a in group.paraphrases for b in group.near_misses)


def _print_row(
    name: str, pairs: Pairs, vetoed: Mapping[str, Sequence[object]], spent_us: float
) -> None:
    shares = [
        f"{len(vetoed[kind]) / len(found):.2%}" if found else "-"
        for kind, found in pairs.kinds.items()
    ]
    lost, near = len(vetoed[_DUPLICATES]), len(vetoed[_NEAR])
    precision = f"{near / (near + lost):.3f}" if near + lost else "-"
    print(f"{name:<12}{shares[1]:>8}{shares[2]:>9}{shares[0]:>8}{precision:>11}{spent_us:>7.0f}")


if __name__ == "__main__":
    sys.exit(main())
