"""What the verifier learns from: which pairs, in which order, and the sets it is checked on.

The first trial learnt from minimal edits alone and forgot what ordinary similarity knows. So the
mixture holds easy and medium negatives too (neighbours among other groups and real questions),
and the permissive sets come rather early, the groups rather late.
"""

import random
import re
from collections.abc import Sequence
from itertools import combinations
from pathlib import Path
from typing import Final

import numpy as np

from nearhit_training.data import (
    Group,
    Pair,
    add_noise,
    cluster_pairs,
    permitted_pairs,
    read_clusters,
    read_pairs,
    training_pairs,
    unlabelled,
)
from nearhit_training.embed import Vectors

_CONTENT: Final = re.compile(r"[a-z]{4,}", re.IGNORECASE)
_JOINED: Final = frozenset({"and", "or", "vs", "versus", "with"})  # what they join may be exchanged
# Above this cosine two real questions may be duplicates that nobody has labelled.
_SURELY_OTHER: Final = 0.8


def authored_pairs(
    groups: Sequence[Group], count: tuple[int, int], rng: random.Random
) -> list[Pair]:
    """Draw so many positives and negatives of each group, and a pair of its near misses."""
    pairs = []
    for group in groups:
        pairs += training_pairs(group, count, rng)
        misses = list(combinations(group.near_misses, 2))
        source = f"misses/{group.part}"
        pairs += [Pair(a, b, 0, source) for a, b in rng.sample(misses, min(1, len(misses)))]
    return pairs


def outside_pairs(folder: Path, rng: random.Random) -> list[Pair]:
    """Draw labelled pairs of the permitted sets, and interchangeable command descriptions."""
    pairs = permitted_pairs(folder, rng)
    if (folder / "nl2bash.jsonl").is_file():
        pairs += cluster_pairs(folder / "nl2bash.jsonl", "train/nl2bash", 1500, rng)
    return pairs


def ordinary_texts(
    groups: Sequence[Group], folder: Path, rng: random.Random
) -> dict[str, list[str]]:
    """Draw the texts whose neighbours become ordinary negatives, by where they come from."""
    texts = {
        "neighbours/groups": [
            text for group in groups for text in (group.query, rng.choice(group.paraphrases))
        ],
        "neighbours/questions": unlabelled(folder, 7000, rng),
    }
    if (folder / "nl2bash.jsonl").is_file():
        first = {c: q for q, c in read_clusters(folder / "nl2bash.jsonl")}
        texts["neighbours/nl2bash"] = rng.sample(sorted(first.values()), min(2500, len(first)))
    return texts


def ordinary_negatives(
    texts: dict[str, list[str]],
    groups: Sequence[Group],
    vectors: Vectors,
    most: int,
    rng: random.Random,
) -> list[Pair]:
    """Pair texts with a neighbour of rank 1 to 50 that is no near duplicate."""
    owner = {text: group.id for group in groups for text in group.texts}
    pairs: list[Pair] = []
    for source, pool in texts.items():
        matrix = vectors.of(pool)
        share = {"neighbours/groups": 0.45, "neighbours/questions": 0.45}.get(source, 0.1)
        for index in rng.sample(range(len(pool)), min(int(most * share), len(pool))):
            near = matrix @ matrix[index]
            nearest = [
                other
                for other in np.argsort(-near)[:50]
                if near[other] < _SURELY_OTHER
                and owner.get(pool[other], "") != owner.get(pool[index], "-")
            ]
            # Half of them are the nearest five.
            nearest = nearest[:5] if rng.random() < 0.5 else nearest
            if nearest:
                pairs.append(Pair(pool[index], pool[rng.choice(nearest)], 0, source))
    return pairs


def trivial_positives(texts: Sequence[str], most: int, rng: random.Random) -> list[Pair]:
    """Pair a real question with itself under surface noise."""
    pairs = []
    for text in rng.sample(list(texts), min(most, len(texts))):
        noisy = add_noise(add_noise(text, rng), rng)
        if noisy != text:
            pairs.append(Pair(text, noisy, 1, "noise"))
    return pairs


def exchanged_pairs(
    groups: Sequence[Group], texts: Sequence[str], most: int, rng: random.Random
) -> list[Pair]:
    """Pair a text whose two words are exchanged with what it was, in the same or other words.

    Three quarters are these, negatives; the rest pair such a text with itself under surface noise,
    so that odd grammar alone says nothing.
    """
    pairs: list[Pair] = []
    origins: list[tuple[str, tuple[str, ...]]] = [(text, (text,)) for text in texts]
    origins += [(group.query, group.paraphrases) for group in groups]
    for text, same in rng.sample(origins, min(most, len(origins))):
        changed = _exchange(text, rng)
        if changed is None:
            continue
        if rng.random() < 0.75:
            pairs.append(Pair(changed, rng.choice(same), 0, "exchanged"))
        else:
            pairs.append(Pair(changed, add_noise(add_noise(changed, rng), rng), 1, "exchanged"))
    return pairs


def _exchange(text: str, rng: random.Random) -> str | None:
    """Exchange two content words that no conjunction joins; None where there are none."""
    words = text.split(" ")
    places = [i for i, word in enumerate(words) if _CONTENT.fullmatch(word.strip(",.?!"))]
    rng.shuffle(places)
    for first, second in combinations(sorted(places[:4]), 2):
        a, b = (words[i].strip(",.?!") for i in (first, second))
        between = {word.strip(",").lower() for word in words[first + 1 : second]}
        if second - first < 2 or between & _JOINED or a.lower() == b.lower():
            continue
        words[first], words[second] = words[first].replace(a, b), words[second].replace(b, a)
        return " ".join(words)
    return None


def in_order(authored: Sequence[Pair], others: Sequence[Pair], rng: random.Random) -> list[Pair]:
    """Mix so that the others come rather early and the groups rather late."""
    keyed = [(rng.random() ** 0.9, pair) for pair in authored]
    keyed += [(rng.random() ** 1.1, pair) for pair in others]
    return [pair for _, pair in sorted(keyed, key=lambda item: item[0])]


def check_sets(folder: Path) -> dict[str, list[Pair]]:
    """Real labelled sets without a licence to ship: looked at while training, never fitted on."""
    files = {"mqp": folder / "mqp.jsonl"}
    files |= {
        f"qqp_{d}": folder / f"qqp_{d}.jsonl"
        for d in ("law", "medical", "programming", "psychology")
    }
    return {name: read_pairs(file, name) for name, file in files.items() if file.is_file()}
