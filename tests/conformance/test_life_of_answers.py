"""How long an answer is served, and who may say that it is not."""

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from conformance.answers import say
from conformance.asking import Case, Target
from conformance.own import OwnStack

FRESH_ONLY = {
    "no-cache": "no-cache",
    "no-store": "no-store",
    "no age": "max-age=0",
    "no-cache among others": "max-stale=5, No-Cache",
}


@pytest.mark.parametrize("control", FRESH_ONLY.values(), ids=FRESH_ONLY.keys())
@pytest.mark.parametrize("stream", [False, True], ids=["as a body", "as a stream"])
def test_client_that_asks_for_a_fresh_answer_gets_one(
    case: Case, control: str, stream: bool
) -> None:
    case.learn(case.body())
    fresh = case.send(case.body(stream=stream), headers={"cache-control": control})
    assert (fresh.reply.status, fresh.calls) == (200, 1)


def test_client_that_forbids_to_store_leaves_nothing(case: Case) -> None:
    case.send(case.body(), headers={"cache-control": "no-store"})
    case.settle()
    assert case.send(case.body()).calls == 1


def test_fresh_answer_for_one_request_leaves_the_next_its_hit(case: Case) -> None:
    case.learn(case.body())
    case.send(case.body(), headers={"cache-control": "no-cache"})
    case.settle()
    assert case.send(case.body()).is_hit


def test_answer_is_served_again_and_again(case: Case) -> None:
    case.learn(case.body())
    assert all(case.send(case.body()).is_hit for _ in range(10))


def test_answer_that_changed_at_the_model_is_still_the_one_that_was_kept(case: Case) -> None:
    case.plan(**say("Before."))
    case.learn(case.body())
    case.plan(**say("After."))
    assert case.send(case.body()).reply.text == "Before."


@pytest.fixture(scope="module")
def kept(target: Target, own_stack: OwnStack | None, real_artefacts: Path) -> Iterator[Case]:
    """A case whose answer was kept before the proxy was stopped and started anew.

    The new one keeps answers for two seconds; whoever comes after finds one that keeps them.
    """
    assert own_stack is not None
    case = target.case()
    case.learn(case.body())
    own_stack.start(real_artefacts, ttl_s=2)
    target.gateway.base_url = own_stack.url
    yield case
    own_stack.start(real_artefacts)
    target.gateway.base_url = own_stack.url


@pytest.mark.own_stack
def test_answer_outlives_a_restart(kept: Case) -> None:
    assert kept.send(kept.body()).is_hit


@pytest.mark.own_stack
def test_answer_ends_when_its_time_is_over_however_often_it_was_served(
    kept: Case, case: Case
) -> None:
    case.learn(case.body())
    end = time.monotonic() + 3
    while time.monotonic() < end:
        case.send(case.body(stream=True))
        time.sleep(0.2)
    assert case.calls >= 2


@pytest.mark.own_stack
def test_answer_is_kept_anew_after_its_time(kept: Case, case: Case) -> None:
    case.learn(case.body())
    time.sleep(2.2)
    assert not case.send(case.body()).is_hit
    assert case.is_repeated(case.body())
