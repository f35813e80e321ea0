"""Pairs of questions in other words: two that need two answers, two that need one.

No cache is right about all of them, so what counts are the two rates, which the run prints. Only
too many wrong hits are a failure (`--wrong-hits-allowed`).
"""

import json
from collections.abc import Callable
from pathlib import Path

from conformance.asking import Case

PAIRS = json.loads((Path(__file__).parent / "pairs.json").read_text(encoding="utf-8"))
Record = Callable[[str, object], None]


def hits_among(case: Case, pairs: list[dict[str, str]]) -> list[dict[str, str]]:
    """Ask the first of each pair, then the second; return the pairs whose second is a hit."""
    bodies = [
        {**case.body(), "messages": [case.system, {"role": "user", "content": pair[name]}]}
        for name in ("stored", "asked")
        for pair in pairs
    ]
    stored, asked = bodies[: len(pairs)], bodies[len(pairs) :]
    for body, pair in zip(stored, pairs, strict=True):
        case.send(body, about=pair["stored"])
    case.settle()
    return [
        pair
        for body, pair in zip(asked, pairs, strict=True)
        if case.send(body, about=pair["asked"]).is_hit
    ]


def test_question_that_only_reads_alike_is_rarely_given_the_answer(
    case: Case, wrong_hits_allowed: int, record_property: Record
) -> None:
    pairs = PAIRS["must_miss"]
    wrong = hits_among(case, pairs)
    said = f"{len(wrong)} of {len(pairs)}"
    record_property("wrong hits among pairs that must miss", said)
    assert len(wrong) <= wrong_hits_allowed, wrong


def test_question_in_other_words_is_counted_when_it_is_given_the_answer(
    case: Case, record_property: Record
) -> None:
    pairs = PAIRS["should_hit"]
    found = len(hits_among(case, pairs))
    record_property("hits among pairs that should hit", f"{found} of {len(pairs)}")
