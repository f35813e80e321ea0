"""What verifier and guards make of the nearest stored questions."""

from collections.abc import Sequence
from uuid import uuid4

import pytest

from doubles import FakeVerifier
from nearhit.decision import Candidate
from nearhit.errors import EncoderError
from nearhit.matching import Verifier, judge, weigh
from nearhit.store import Entry, Neighbour


def near(text: str, similarity: float) -> Neighbour:
    return Neighbour(Entry(uuid4(), "s", "f", text, "{}", "m", 1, 2, 0, ""), similarity)


async def judged(
    asked: str,
    neighbours: Sequence[Neighbour],
    guards: Sequence[str],
    verifier: Verifier | None,
    enough: float = 2.0,
) -> tuple[Candidate, ...]:
    return await judge(asked, weigh(asked, neighbours, guards, verifier), verifier, enough)


async def test_judge_without_a_verifier_takes_the_similarity_for_the_confidence() -> None:
    (found,) = await judged("q", [near("a", 0.8)], (), None)
    assert (found.similarity, found.confidence, found.veto) == (0.8, 0.8, None)


async def test_judge_asks_the_verifier_only_where_there_is_doubt() -> None:
    verifier = FakeVerifier({"near": 0.7})
    neighbours = [near("WHO  is it", 0.99), near("near", 0.8), near("far", 0.4)]
    found = await judged("Who is it?", neighbours, (), verifier)
    assert verifier.asked == ["near"]
    assert [candidate.confidence for candidate in found] == [1.0, 0.7, 0.0]


async def test_judge_verifies_a_text_that_the_encoder_cannot_tell_apart() -> None:
    verifier = FakeVerifier({"a long text with one other word": 0.1})
    neighbours = [near("a long text with one other word", 0.9999)]
    (found,) = await judged("a long text with one odd word", neighbours, (), verifier)
    assert found.confidence == 0.1


async def test_judge_names_the_guard_that_forbids_a_candidate() -> None:
    neighbours = [near("Is 500 mg of it safe?", 0.99), near("Is 200 mg of it safe?", 0.98)]
    found = await judged("Is 200 mg of it safe?", neighbours, ("numbers",), None)
    assert [candidate.veto for candidate in found] == ["numbers", None]


async def test_judge_verifies_no_other_where_the_nearest_is_sure_enough() -> None:
    verifier = FakeVerifier({"near": 0.95, "next": 0.99})
    neighbours = [near("near", 0.9), near("next", 0.8)]
    found = await judged("q", neighbours, (), verifier, enough=0.95)
    assert verifier.asked == ["near"]
    assert [candidate.confidence for candidate in found] == [0.95, 0.0]


async def test_judge_verifies_the_others_where_the_nearest_is_not_sure_enough() -> None:
    verifier = FakeVerifier({"near": 0.94, "next": 0.99, "last": 0.2})
    neighbours = [near("near", 0.9), near("next", 0.8), near("last", 0.7)]
    found = await judged("q", neighbours, (), verifier, enough=0.95)
    assert [candidate.confidence for candidate in found] == [0.94, 0.99, 0.2]


async def test_judge_is_not_satisfied_with_what_a_guard_forbids() -> None:
    verifier = FakeVerifier({"500 mg?": 0.99, "of it?": 0.97, "so?": 0.2})
    neighbours = [near("500 mg?", 0.95), near("of it?", 0.9), near("so?", 0.8)]
    found = await judged("200 mg?", neighbours, ("numbers",), verifier, enough=0.95)
    assert verifier.asked == ["of it?"]
    assert [candidate.confidence for candidate in found] == [0.0, 0.97, 0.0]


async def test_judge_verifies_nothing_where_the_same_words_are_stored() -> None:
    verifier = FakeVerifier({})
    found = await judged("Who is it?", [near("who is it", 0.99), near("far", 0.9)], (), verifier, 1)
    assert verifier.asked == []
    assert found[0].confidence == 1.0


async def test_judge_lets_a_failing_verifier_be_seen() -> None:
    class Failing(FakeVerifier):
        async def confidences(
            self, asked: str, stored: Sequence[str], similarities: Sequence[float]
        ) -> list[float]:
            raise EncoderError("failed")

    with pytest.raises(EncoderError, match="failed"):
        await judged("q", [near("a", 0.8)], (), Failing({}))


async def test_judge_leaves_out_what_is_too_far_for_the_confidence_that_is_wanted() -> None:
    verifier = FakeVerifier({"near": 0.7, "next": 0.9})
    weighed = weigh("q", [near("near", 0.7), near("next", 0.55)], (), verifier)
    found = await judge("q", weighed, verifier, 0.999, 0.999)
    assert verifier.asked == ["near"]
    assert [candidate.confidence for candidate in found] == [0.7, 0.0]
