"""The shipped verifier and the guards at work in a real proxy, with the settings that ship."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from gateway import Gateway, Upstream, config_of, running

QUESTION = "How do I enable two-factor authentication on my GitHub account?"


@pytest.fixture(scope="module")
def deciding(
    tmp_path_factory: pytest.TempPathFactory, upstream_server: str, real_artefacts: Path
) -> Iterator[Gateway]:
    config = config_of(upstream_server, nearhit={"deadline_ms": 5000})
    with running(tmp_path_factory.mktemp("proxy"), config, real_artefacts) as gateway:
        gateway.learn(QUESTION)
        gateway.learn("Is it safe to take 400 mg of ibuprofen twice a day?")
        yield gateway


@pytest.mark.parametrize(
    "paraphrase",
    [
        "How can I enable two-factor authentication on my GitHub account?",
        "What are the steps to enable two-factor authentication on a GitHub account?",
        "please tell me how to enable two factor authentication on my github account",
    ],
)
def test_same_question_in_other_words_hits_and_says_how_sure_it_is(
    deciding: Gateway, upstream: Upstream, paraphrase: str
) -> None:
    hit = deciding.ask(paraphrase)
    assert (hit.outcome, hit.kind) == ("hit", "semantic"), hit.headers
    assert 0.9 < float(hit.headers["x-nearhit-confidence"]) <= 1
    assert upstream.count == 0


@pytest.mark.parametrize(
    "other",
    [
        "How do I disable two-factor authentication on my GitHub account?",
        "How do I enable two-factor authentication on my GitLab account?",
        "Is it safe to take 800 mg of ibuprofen twice a day?",
        "Is it safe to take 400 mg of paracetamol twice a day?",
        "Is it safe to take 400 mg of ibuprofen four times a day?",
    ],
)
def test_question_that_only_looks_the_same_misses_however_near_it_is(
    deciding: Gateway, upstream: Upstream, other: str
) -> None:
    miss = deciding.ask(other)
    assert miss.outcome == "miss", miss.headers
    assert miss.reason == "below_threshold" or miss.reason.startswith("guard_"), miss.reason
    assert float(miss.headers["x-nearhit-similarity"]) > 0.5
    assert upstream.count == 1
