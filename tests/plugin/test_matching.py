"""What verifier and guards make of the nearest stored questions."""

from collections.abc import Sequence
from uuid import uuid4

import pytest

from doubles import FakeVerifier
from nearhit.errors import EncoderError
from nearhit.matching import judge
from nearhit.store import Entry, Neighbour


def near(text: str, similarity: float) -> Neighbour:
    return Neighbour(Entry(uuid4(), "s", "f", text, "{}", "m", 1, 2, 0, ""), similarity)


async def test_judge_without_a_verifier_takes_the_similarity_for_the_confidence() -> None:
    (found,) = await judge("q", [near("a", 0.8)], (), None)
    assert (found.similarity, found.confidence, found.veto) == (0.8, 0.8, None)


async def test_judge_asks_the_verifier_only_where_there_is_doubt() -> None:
    verifier = FakeVerifier({"near": 0.7})
    neighbours = [near("WHO  is it", 0.99), near("near", 0.8), near("far", 0.4)]
    found = await judge("Who is it?", neighbours, (), verifier)
    assert verifier.asked == ["near"]
    assert [candidate.confidence for candidate in found] == [1.0, 0.7, 0.0]


async def test_judge_verifies_a_text_that_the_encoder_cannot_tell_apart() -> None:
    verifier = FakeVerifier({"a long text with one other word": 0.1})
    neighbours = [near("a long text with one other word", 0.9999)]
    (found,) = await judge("a long text with one odd word", neighbours, (), verifier)
    assert found.confidence == 0.1


async def test_judge_names_the_guard_that_forbids_a_candidate() -> None:
    neighbours = [near("Is 500 mg of it safe?", 0.99), near("Is 200 mg of it safe?", 0.98)]
    found = await judge("Is 200 mg of it safe?", neighbours, ("numbers",), None)
    assert [candidate.veto for candidate in found] == ["numbers", None]


async def test_judge_lets_a_failing_verifier_be_seen() -> None:
    class Failing(FakeVerifier):
        async def confidences(
            self, asked: str, stored: Sequence[str], similarities: Sequence[float]
        ) -> list[float]:
            raise EncoderError("failed")

    with pytest.raises(EncoderError, match="failed"):
        await judge("q", [near("a", 0.8)], (), Failing({}))
