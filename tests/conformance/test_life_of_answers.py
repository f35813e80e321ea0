"""How long an answer is served, and who may say that it is not."""

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

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


@pytest.mark.parametrize("stream", [False, True], ids=["as a body", "as a stream"])
def test_client_that_refuses_an_answer_of_this_age_gets_a_fresh_one(
    case: Case, stream: bool
) -> None:
    case.learn(case.body())
    time.sleep(2.1)
    fresh = case.send(case.body(stream=stream), headers={"cache-control": "max-age=1"})
    assert (fresh.reply.status, fresh.calls) == (200, 1)


def test_client_that_takes_an_answer_of_this_age_is_given_it(case: Case) -> None:
    case.learn(case.body())
    assert case.send(case.body(), headers={"cache-control": "max-age=3600"}).is_hit


@pytest.mark.parametrize("stream", [False, True], ids=["as a body", "as a stream"])
def test_client_that_forbids_to_ask_the_model_is_told_that_nothing_is_kept(
    case: Case, stream: bool
) -> None:
    told = case.send(case.body(stream=stream), headers={"cache-control": "only-if-cached"})
    assert (told.reply.status, told.calls) == (504, 0)


@pytest.mark.parametrize("stream", [False, True], ids=["as a body", "as a stream"])
def test_client_that_forbids_to_ask_the_model_is_given_what_is_kept(
    case: Case, stream: bool
) -> None:
    case.learn(case.body(stream=stream))
    body = case.body(stream=stream)
    assert case.send(body, headers={"cache-control": "only-if-cached"}).is_hit


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


LONGER: dict[str, Any] = {
    "a header of the cache's own": {"headers": {"x-nearhit-ttl": "999999"}},
    "Cache-Control": {"headers": {"cache-control": "max-age=999999, max-stale=999999"}},
    "a body field": {"fields": {"cache": {"ttl": 999999, "s-maxage": 999999}}},
    "body fields of other gateways": {"fields": {"ttl": 999999, "cache_ttl": 999999}},
}


@pytest.mark.own_stack
@pytest.mark.parametrize("asked", LONGER.values(), ids=LONGER.keys())
def test_nothing_that_a_client_sends_lengthens_the_life_of_an_answer(
    kept: Case, case: Case, asked: dict[str, Any]
) -> None:
    body, headers = case.body(**asked.get("fields", {})), asked.get("headers", {})
    assert case.is_repeated(body, headers=headers)
    time.sleep(2.2)
    assert not case.send(body, headers=headers).is_hit
