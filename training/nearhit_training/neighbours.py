"""Vectors of many texts, and which of them are close. float32, rows of unit length."""

import sys
from collections.abc import Iterator, Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from nearhit.encoder.base import Encoder, Unencodable

_ROWS: Final = 512  # of one similarity block: 512 x 50,000 float32 is 100 MB

Matrix = NDArray[np.float32]


async def encode_all(encoder: Encoder, texts: Sequence[str], title: str) -> tuple[Matrix, set[int]]:
    """Encode texts, about 5 ms each.

    Returns:
        float32 (len(texts), dimension), and the positions of texts that have no trustworthy
        vector: their rows are zero, so that they are close to nothing.
    """
    vectors = np.zeros((len(texts), encoder.dimension), np.float32)
    without = set()
    bar = tqdm(texts, desc=title, unit="text", disable=None, file=sys.stderr)
    for index, text in enumerate(bar):
        encoding = await encoder.encode(text)
        if isinstance(encoding, Unencodable):
            without.add(index)
        else:
            vectors[index] = encoding
    return vectors, without


def nearest(vectors: Matrix, last_rank: int) -> Iterator[tuple[int, int, int, float]]:
    """Give (row, rank, neighbour, similarity) for each row's neighbours, rank 1 the closest."""
    count = len(vectors)
    last_rank = min(last_rank, count - 1)
    if last_rank < 1:
        return
    for start in range(0, count, _ROWS):
        similarities = vectors[start : start + _ROWS] @ vectors.T
        height = len(similarities)
        similarities[np.arange(height), np.arange(start, start + height)] = -np.inf
        top = np.argpartition(-similarities, last_rank - 1, axis=1)[:, :last_rank]
        values = np.take_along_axis(similarities, top, axis=1)
        order = np.argsort(-values, axis=1, kind="stable")
        for offset in range(height):
            for rank, column in enumerate(order[offset], start=1):
                yield (
                    start + offset,
                    rank,
                    int(top[offset, column]),
                    float(values[offset, column]),
                )


def highest_similarity(vectors: Matrix, others: Matrix) -> NDArray[np.float32]:
    """Return for each row its similarity to the closest row of `others`; -1 where there is none."""
    highest = np.full(len(vectors), -1.0, np.float32)
    if len(others):
        for start in range(0, len(vectors), _ROWS):
            block = vectors[start : start + _ROWS] @ others.T
            highest[start : start + _ROWS] = block.max(axis=1)
    return highest


def repeated(vectors: Matrix, owners: Sequence[int], bound: float, kept_first: int = 0) -> set[int]:
    """Return the rows that lie within `bound` of an earlier row that stays and has another owner.

    Args:
        vectors: float32 (n, dimension), rows of unit length or zero.
        owners: group of each row; the rows of a group that follow each other are judged at once.
        bound: lowest similarity of two texts that count as one.
        kept_first: so many rows stay whatever they are close to.
    """
    owner = np.asarray(owners)
    stays = np.arange(len(vectors)) < kept_first
    start = kept_first
    while start < len(vectors):
        end = start + 1
        while end < len(vectors) and owner[end] == owner[start]:
            end += 1
        earlier = np.flatnonzero(stays[:start] & (owner[:start] != owner[start]))
        highest = highest_similarity(vectors[start:end], vectors[earlier])
        stays[start:end] = highest < bound
        start = end
    return {int(row) for row in np.flatnonzero(~stays)}
