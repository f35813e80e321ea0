"""Questions with known meaning: groups, pairs, which sets may be trained on, and surface noise.

A group holds a query, paraphrases that one answer serves too, and near misses that it does not.
Everything here is plain text and numpy; models live in other modules.
"""

import hashlib
import json
import random
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations, pairwise
from pathlib import Path
from typing import Any, Final

from nearhit.errors import ConfigError

# Sets whose stated licence lets weights that were trained on them be shipped, with the most
# rows taken of each. Share-alike ones are marked; the model card names them.
PERMITTED: Final[Mapping[str, tuple[int, str]]] = {
    "paws_wiki": (12_000, "PAWS, any purpose (Google LLC)"),
    "disfl_qa": (3000, "CC BY 4.0; questions from SQuAD, CC BY-SA 4.0"),
    "ehrsql": (2500, "CC BY 4.0"),
    "mimicsql": (1200, "MIT"),
    "spider_syn": (4000, "MIT; questions from Spider, CC BY-SA 4.0"),
    "condaqa": (1500, "Apache-2.0"),
    "snips": (1500, "CC0 1.0"),
    "checklist_qqp": (2000, "MIT"),
    "ambignq": (2000, "CC BY-SA 3.0"),
    "negnli": (600, "MIT; sentences from SNLI, CC BY-SA 4.0, and MNLI, OANC"),
    "breaking_nli": (900, "CC BY-SA 4.0"),
    "med": (500, "CC BY-SA 4.0"),
    "svamp": (300, "MIT"),
    "rqe_amia2016": (3000, "CC BY 4.0"),
    "meqsum": (600, "CC BY 4.0"),
}
# Real questions without labels, for ordinary negatives: PDDL and MIT.
UNLABELLED: Final = (
    "reddit_general",
    "reddit_law",
    "reddit_medical",
    "reddit_programming",
    "reddit_psychology",
    "counsel_chat",
    "medical_qa_sites",
)
_LONGEST_WORDS: Final = 45  # of one text; longer ones cost more steps than they teach

_PARTS: Final = (  # files, not domains
    "tasks",
    "real",
    "orders",
    "payloads",
    "support",
    "values",
    "questions",
    "titles",
    "everyday",
)

_WORD: Final = re.compile(r"\w+")
_KEYS: Final = {
    c: beside for row in ("qwertyuiop", "asdfghjkl", "zxcvbnm") for c, beside in pairwise(row)
}


@dataclass(frozen=True, slots=True)
class Group:
    """A query with what means the same and what only looks the same."""

    id: str
    domain: str
    topic: str
    query: str
    paraphrases: tuple[str, ...]
    near_misses: tuple[str, ...]
    part: str = ""

    @property
    def texts(self) -> tuple[str, ...]:
        """Every text of the group."""
        return (self.query, *self.paraphrases, *self.near_misses)


@dataclass(frozen=True, slots=True)
class Pair:
    """Two texts, and whether one answer serves both (1) or not (0)."""

    a: str
    b: str
    label: int
    source: str


def read_rows(path: Path) -> list[dict[str, Any]]:
    """Read a JSON lines file.

    Raises:
        ConfigError: a line is not a JSON object.
    """
    rows = []
    for number, line in enumerate(path.read_text("utf-8").splitlines(), 1):
        try:
            row = json.loads(line)
        except ValueError as error:
            raise ConfigError(
                f"{path}:{number} must be JSON, got {error}; mend the line"
            ) from error
        if not isinstance(row, dict):
            raise ConfigError(f"{path}:{number} must be a JSON object; mend the line")
        rows.append(row)
    return rows


def read_groups(folder: Path) -> list[Group]:
    """Read the groups of every ``*.jsonl`` in a folder, or of one file, in the order of names.

    Raises:
        ConfigError: there are none, an id occurs twice, or a row is not a group.
    """
    files = [folder] if folder.is_file() else sorted(folder.glob("*.jsonl"))
    groups = []
    for file in files:
        for row in read_rows(file):
            try:
                groups.append(
                    Group(
                        id=row["id"],
                        domain=row["domain"],
                        topic=row["topic"],
                        query=row["query"],
                        paraphrases=tuple(row["paraphrases"]),
                        near_misses=tuple(m["text"] for m in row["near_misses"]),
                        part=file.stem if file.stem in _PARTS else row["domain"],
                    )
                )
            except (KeyError, TypeError) as error:
                raise ConfigError(
                    f"{file} must hold groups (id, domain, topic, query, paraphrases, "
                    f"near_misses), got a row without {error}; see `nearhit-train generate`"
                ) from error
    if not groups:
        raise ConfigError(f"{folder} must hold groups as *.jsonl, got none; check the path")
    if len({group.id for group in groups}) < len(groups):
        raise ConfigError(f"{folder} must give each group an id of its own; rename the doubles")
    return groups


def read_pairs(path: Path, source: str) -> list[Pair]:
    """Read labelled pairs."""
    return [Pair(r["a"], r["b"], int(r["label"]), source) for r in read_rows(path) if "label" in r]


def read_clusters(path: Path) -> list[tuple[str, str]]:
    """Read (query, cluster) rows."""
    return [(row["query"], row["cluster"]) for row in read_rows(path)]


def sha256_texts(texts: Iterable[str]) -> str:
    """Return the sha256 of texts, in any order."""
    return hashlib.sha256("\n".join(sorted(texts)).encode()).hexdigest()


def normal(text: str) -> str:
    """Return the words of a text, for comparing texts whatever their case and punctuation."""
    return " ".join(_WORD.findall(text.lower()))


def refuse_held_out(training: Iterable[str], held_out: Iterable[str]) -> None:
    """Refuse to train on a text that is held out.

    Raises:
        ConfigError: a text stands on both sides.
    """
    kept = {normal(text) for text in held_out} - {""}
    both = sum(normal(text) in kept for text in training)
    if both:
        raise ConfigError(
            f"training data must share no text with what is held out, got {both} in both; "
            f"split again with `nearhit-train split`"
        )


def without_held_out(pairs: Sequence[Pair], held_out: Iterable[str]) -> list[Pair]:
    """Leave out every pair that has a held-out text."""
    kept = {normal(text) for text in held_out}
    return [p for p in pairs if normal(p.a) not in kept and normal(p.b) not in kept]


def test_pairs(group: Group) -> list[Pair]:
    """Pair the query with each paraphrase and each near miss: what is evaluated."""
    source = f"groups/{group.part}"
    return [Pair(group.query, text, 1, source) for text in group.paraphrases] + [
        Pair(group.query, text, 0, source) for text in group.near_misses
    ]


def training_pairs(group: Group, count: tuple[int, int], rng: random.Random) -> list[Pair]:
    """Draw pairs inside a group: same x same, and same x near miss; positions carry no meaning."""
    same = [group.query, *group.paraphrases]
    positive = list(combinations(same, 2))
    negative = [(text, miss) for text in same for miss in group.near_misses]
    source = f"groups/{group.part}"
    drawn = [(pair, 1) for pair in rng.sample(positive, min(count[0], len(positive)))]
    drawn += [(pair, 0) for pair in rng.sample(negative, min(count[1], len(negative)))]
    return [Pair(a, b, label, source) for (a, b), label in drawn]


def permitted_pairs(folder: Path, rng: random.Random) -> list[Pair]:
    """Draw pairs from the sets of `PERMITTED` that a folder has; of RQE its positives only."""
    drawn: list[Pair] = []
    for name, (most, _) in PERMITTED.items():
        files = sorted((folder / name).glob("pairs*.jsonl"))
        pairs = [pair for file in files for pair in read_pairs(file, f"train/{name}")]
        if name == "rqe_amia2016":  # its negatives are random or noisy
            pairs = [pair for pair in pairs if pair.label]
        pairs = [p for p in pairs if max(len(p.a.split()), len(p.b.split())) <= _LONGEST_WORDS]
        drawn += rng.sample(pairs, min(most, len(pairs)))
    return drawn


def cluster_pairs(path: Path, source: str, most: int, rng: random.Random) -> list[Pair]:
    """Draw positives from clusters of interchangeable texts."""
    clusters: dict[str, list[str]] = {}
    for query, cluster in read_clusters(path):
        clusters.setdefault(cluster, []).append(query)
    pairs = [
        Pair(a, b, 1, source) for texts in clusters.values() for a, b in combinations(texts[:4], 2)
    ]
    return rng.sample(pairs, min(most, len(pairs)))


def unlabelled(folder: Path, most: int, rng: random.Random) -> list[str]:
    """Draw real questions."""
    texts = [
        row["query"]
        for name in UNLABELLED
        if (folder / f"{name}.jsonl").is_file()
        for row in read_rows(folder / f"{name}.jsonl")
        if 3 <= len(row["query"].split()) <= _LONGEST_WORDS
    ]
    texts = sorted(set(texts))
    return rng.sample(texts, min(most, len(texts)))


def add_noise(text: str, rng: random.Random) -> str:
    """Change how a text looks and not what it says: case, punctuation, at most a typo or two.

    Words with digits or symbols are left alone: a typo in one may change the answer.
    """
    draw = rng.random()
    if draw < 0.25:
        text = text.lower()
    elif draw < 0.28:
        text = text.upper()
    if rng.random() < 0.25:
        text = text.rstrip("?.! ")
    elif rng.random() < 0.1:
        text = text.rstrip("?.! ") + rng.choice(["?", "??", ".", " ?", "!"])
    if rng.random() < 0.1:
        text = text.replace(",", "").replace("'", "")
    if rng.random() < 0.05:
        text = rng.choice(["please ", "hi, ", "hey ", "quick question: "]) + text
    if rng.random() < 0.2:
        words = text.split(" ")
        for _ in range(rng.choice((1, 1, 2))):
            index = rng.randrange(len(words))
            words[index] = _typo(words[index], rng)
        text = " ".join(words)
    return text


def _typo(word: str, rng: random.Random) -> str:
    if len(word) < 5 or not word.isalpha():
        return word
    at = rng.randrange(1, len(word) - 2)
    kind = rng.randrange(4)
    if kind == 0:
        return word[:at] + word[at + 1] + word[at] + word[at + 2 :]
    if kind == 1:
        return word[:at] + word[at + 1 :]
    if kind == 2:
        return word[:at] + word[at] + word[at:]
    return word[:at] + _KEYS.get(word[at].lower(), word[at]) + word[at + 1 :]
