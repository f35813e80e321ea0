"""Sets whose texts are compared with an anchor, and how far apart both kinds stand.

What is a positive and a negative of an anchor:

    groups    the paraphrases and the near misses of the query
    triplets  as they stand; rows with the same anchor belong together
    pairs     the texts paired with `a`, by label
    clusters  up to five members beside one, and as many questions drawn from other clusters
"""

import math
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from nearhit.encoder import Vector
from nearhit.errors import ConfigError
from nearhit_eval.labelled import Group, LabelledRow, Member, Pair, Triplet, read_labelled
from nearhit_eval.metrics import Values

_MEMBERS: Final = 5
_MAPPED: Final = 30  # anchors of a map
_KINDS: Final = {Group: "groups", Member: "clusters", Pair: "pairs", Triplet: "triplets"}


@dataclass(slots=True)
class Anchor:
    """A text with those that one answer serves too, and those that it does not."""

    text: str
    positives: list[str] = field(default_factory=list)
    negatives: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class ComparedSet:
    """The anchors of one domain in one file.

    Attributes:
        name: of the file.
        domain: that its rows name, or `name`.
        kind: of its rows.
        anchors: at least one, with positives and negatives among them.
    """

    name: str
    domain: str
    kind: str
    anchors: tuple[Anchor, ...]

    @property
    def texts(self) -> list[str]:
        """Every text once."""
        return list(
            dict.fromkeys(t for a in self.anchors for t in (a.text, *a.positives, *a.negatives))
        )


@dataclass(frozen=True, slots=True)
class Cosines:
    """Similarities to the anchor.

    Attributes:
        positive: float64 (p,).
        negative: float64 (n,).
        sums: float64 (anchors, 4): sum and count of the positive, sum and count of the negative.
    """

    positive: Values
    negative: Values
    sums: NDArray[np.float64]

    @property
    def margin(self) -> float:
        """Mean of the positive less mean of the negative."""
        return float(self.positive.mean() - self.negative.mean())

    @property
    def separation(self) -> float:
        """d': the margin in units of the pooled standard deviation, whatever the scale."""
        spread = math.sqrt((self.positive.var() + self.negative.var()) / 2)
        return self.margin / spread if spread else math.nan


def read_compared(path: Path, seed: int) -> list[ComparedSet]:
    """Read a file, one set for each domain that its rows name.

    Raises:
        ConfigError: naming file, line and remedy.
    """
    by_domain: dict[str, list[LabelledRow]] = {}
    kind = None
    for row in read_labelled(path):
        found = _KINDS[type(row.content)]
        if kind not in (None, found):
            raise ConfigError(
                f"{path}:{row.number} must be of the kind of the lines before it, {kind}, got "
                f"{found}; give each kind a file of its own"
            )
        kind = found
        by_domain.setdefault(row.domain or path.stem, []).append(row)
    if kind is None:
        raise ConfigError(f"{path} must hold at least one line, got none; check the path")
    sets = []
    for domain, rows in sorted(by_domain.items()):
        anchors = tuple(_anchors(rows, random.Random(seed)))  # noqa: S311 - a seeded draw
        for name in ("positives", "negatives"):
            if not any(getattr(anchor, name) for anchor in anchors):
                raise ConfigError(
                    f"{path}:{rows[0].number} and the other lines of domain {domain} must hold "
                    f"positives and negatives, got no {name}; a margin lies between the two"
                )
        sets.append(ComparedSet(path.stem, domain, kind, anchors))
    return sets


def _anchors(rows: Sequence[LabelledRow], rng: random.Random) -> list[Anchor]:
    found: dict[str, Anchor] = {}
    clusters: dict[str, list[str]] = {}
    for row in rows:
        match row.content:
            case Group(query, paraphrases, near_misses):
                anchor = found.setdefault(query, Anchor(query))
                anchor.positives += paraphrases
                anchor.negatives += near_misses
            case Triplet(text, positive, negative):
                anchor = found.setdefault(text, Anchor(text))
                anchor.positives.append(positive)
                anchor.negatives.append(negative)
            case Pair(a, b, is_same):
                anchor = found.setdefault(a, Anchor(a))
                (anchor.positives if is_same else anchor.negatives).append(b)
            case Member(query, cluster):
                clusters.setdefault(cluster, []).append(query)
    return [*found.values(), *_of_clusters(clusters, rng)]


def _of_clusters(clusters: Mapping[str, Sequence[str]], rng: random.Random) -> list[Anchor]:
    everything = [(name, text) for name, texts in sorted(clusters.items()) for text in texts]
    made = []
    for name, texts in sorted(clusters.items()):
        first, *others = rng.sample(sorted(set(texts)), min(len(set(texts)), 1 + _MEMBERS))
        if others and len(clusters) > 1:
            drawn = rng.sample(everything, min(len(everything), len(texts) + 2 * _MEMBERS))
            outside = [text for owner, text in drawn if owner != name]
            made.append(Anchor(first, others, outside[: len(others)]))
    return made


def cosines_of(one: ComparedSet, vectors: Mapping[str, Vector | None]) -> Cosines:
    """Compare each anchor with its texts; those without a vector are left out.

    Raises:
        ConfigError: nothing is left of one kind.
    """
    values: tuple[list[float], list[float]] = ([], [])
    sums = np.zeros((len(one.anchors), 4))
    for index, anchor in enumerate(one.anchors):
        own = vectors[anchor.text]
        for side, texts in enumerate((anchor.positives, anchor.negatives)):
            known = [vector for vector in map(vectors.__getitem__, texts) if vector is not None]
            if own is not None and known:
                found = [float(value) for value in np.stack(known) @ own]
                values[side].extend(found)
                sums[index, 2 * side : 2 * side + 2] = sum(found), len(found)
    if not values[0] or not values[1]:
        raise ConfigError(
            f"{one.name} must hold positives and negatives that the encoder can read, got "
            f"{len(values[0])} and {len(values[1])} in domain {one.domain}; it reads English of "
            f"at most 256 tokens (encoder.multilingual)"
        )
    return Cosines(np.array(values[0]), np.array(values[1]), sums)


def resampled_margins(cosines: Cosines, count: int, seed: int) -> Values:
    """Return the margin of `count` sets whose anchors are drawn anew, with replacement.

    The same seed draws the same anchors, so that encoders can be compared draw by draw. NaN where
    a draw has one kind only.
    """
    anchors = len(cosines.sums)
    rng = np.random.default_rng(seed)
    margins = np.empty(count)
    for index in range(count):
        drawn = cosines.sums[rng.integers(0, anchors, anchors)].sum(axis=0)
        with np.errstate(invalid="ignore", divide="ignore"):
            margins[index] = drawn[0] / drawn[1] - drawn[2] / drawn[3]
    return margins


def map_of(
    one: ComparedSet, vectors: Mapping[str, Vector | None], seed: int
) -> list[list[float | int]]:
    """Return x, y, kind (0 anchor, 1 positive, 2 negative) and number of some anchors' texts."""
    order = np.random.default_rng(seed).permutation(len(one.anchors))[:_MAPPED]
    rows = [
        (vector, kind, index)
        for index, anchor in enumerate(one.anchors[place] for place in order)
        for kind, texts in enumerate(([anchor.text], anchor.positives, anchor.negatives))
        for text in texts
        if (vector := vectors[text]) is not None
    ]
    if not rows:
        return []
    points = project(np.stack([vector for vector, _, _ in rows]))
    return [
        [round(float(x), 3), round(float(y), 3), kind, index]
        for (x, y), (_, kind, index) in zip(points, rows, strict=True)
    ]


def project(vectors: NDArray[np.float32]) -> NDArray[np.float64]:
    """Project rows onto their two principal axes, (n, 2); the signs of the axes are fixed."""
    centred = vectors.astype(np.float64) - vectors.mean(axis=0, dtype=np.float64)
    _, _, axes = np.linalg.svd(centred, full_matrices=False)
    axes = np.pad(axes[:2], ((0, max(0, 2 - len(axes))), (0, 0)))
    largest = axes[np.arange(2), np.abs(axes).argmax(axis=1)]
    return np.asarray(centred @ (axes * np.where(largest < 0, -1, 1)[:, None]).T)
