import time
from email.utils import formatdate

import pytest

from nearhit.errors import ConfigError
from nearhit_training.endpoint import (
    Ask,
    ChatClient,
    EndpointError,
    EndpointRefusal,
    Policy,
    check_url,
)
from scripted_model import Body, Cut, Fault, Say, ScriptedModel, Silence, Status

ASK = Ask("judge", "scripted", (("user", "hello"),), {"type": "object"}, 0.0, 50)


class Waits:
    """Records the waits and does not wait."""

    def __init__(self) -> None:
        self.seconds: list[float] = []

    async def __call__(self, seconds: float) -> None:
        self.seconds.append(seconds)


def policy(model: ScriptedModel, **values: float) -> Policy:
    return Policy(model.url, deadline_s=values.get("deadline_s", 10), attempts=4, backoff_s=0.001)


@pytest.mark.parametrize(
    "fault",
    [Status(500), Status(503), Status(429), Cut(), Body("no json"), Body('{"choices": []}')],
    ids=str,
)
async def test_call_after_a_passing_fault_is_answered(model: ScriptedModel, fault: Fault) -> None:
    model.faults = [fault, fault, Say("fine")]
    async with ChatClient(policy(model)) as client:
        reply = await client.complete(ASK)
    assert (reply.text, reply.prompt_tokens, reply.completion_tokens) == ("fine", 100, 50)
    assert len(model.requests) == 3


async def test_call_told_to_retry_after_waits_at_least_that_long(model: ScriptedModel) -> None:
    model.faults = [Status(429, {"Retry-After": "7"}), Say("fine")]
    waits = Waits()
    async with ChatClient(policy(model), sleep=waits) as client:
        await client.complete(ASK)
    assert 7 <= waits.seconds[0] < 8


async def test_call_told_to_retry_after_a_date_waits_until_then(model: ScriptedModel) -> None:
    date = formatdate(time.time() + 30, usegmt=True)
    model.faults = [Status(503, {"Retry-After": date}), Say("fine")]
    waits = Waits()
    async with ChatClient(policy(model), sleep=waits) as client:
        await client.complete(ASK)
    assert 25 < waits.seconds[0] < 31


async def test_waits_between_attempts_stay_below_a_doubling_bound(model: ScriptedModel) -> None:
    model.faults = [Status(500)] * 4
    waits = Waits()
    async with ChatClient(Policy(model.url, attempts=4, backoff_s=2), sleep=waits) as client:
        with pytest.raises(EndpointError, match="4 attempts, got status 500"):
            await client.complete(ASK)
    assert all(wait <= 2 * 2**n for n, wait in enumerate(waits.seconds))


async def test_call_without_an_answer_ends_at_its_deadline(model: ScriptedModel) -> None:
    model.faults = [Silence()]
    async with ChatClient(policy(model, deadline_s=0.1)) as client:
        with pytest.raises(EndpointError, match=r"within 0\.1 s, got no answer; raise --deadline"):
            await client.complete(ASK)


async def test_format_that_the_endpoint_refuses_is_left_out_from_then_on(
    model: ScriptedModel,
) -> None:
    model.faults = [
        Status(400, message="response_format json_schema is not supported"),
        Status(400, message="Unsupported parameter: 'max_tokens'; use 'max_completion_tokens'"),
        Status(422, message="response_format is unknown"),
        Say("fine"),
        Say("fine"),
    ]
    async with ChatClient(policy(model)) as client:
        for _ in range(2):
            await client.complete(ASK)
    first, *_, before_last, last = model.requests
    assert first["response_format"]["json_schema"]["strict"] is True
    for request in (before_last, last):
        assert "response_format" not in request
        assert request["max_completion_tokens"] == 50
        assert "max_tokens" not in request
    assert len(model.requests) == 5


async def test_wrong_key_ends_the_run_without_showing_it(model: ScriptedModel) -> None:
    model.faults = [Status(401, message="bad key sk-secret")]
    async with ChatClient(policy(model), "sk-secret") as client:
        with pytest.raises(EndpointRefusal, match=r"status 401 .*bad key \*\*\*.*set the key"):
            await client.complete(ASK)
    assert model.keys == ["Bearer sk-secret"]


async def test_empty_account_is_not_tried_again(model: ScriptedModel) -> None:
    model.faults = [Status(429, message="insufficient_quota")]
    async with ChatClient(policy(model)) as client:
        with pytest.raises(EndpointRefusal, match="the account is empty"):
            await client.complete(ASK)
    assert len(model.requests) == 1


async def test_refusal_and_cut_off_text_are_told_apart(model: ScriptedModel) -> None:
    model.faults = [Say(None, refusal="I cannot"), Say("half", finish_reason="length")]
    async with ChatClient(policy(model)) as client:
        refused, truncated = [await client.complete(ASK) for _ in range(2)]
    assert (refused.refused, refused.text) == (True, "")
    assert (truncated.refused, truncated.truncated) == (False, True)


@pytest.mark.parametrize("url", ["localhost:8000/v1", "ftp://host/v1", "", "http://"])
def test_url_that_is_not_http_is_refused(url: str) -> None:
    with pytest.raises(ConfigError, match="--endpoint must be an http or https URL"):
        check_url(url)


@pytest.mark.parametrize("url", ["http://user:pw@host/v1", "http://host/v1?key=pw"])
def test_url_with_a_secret_is_refused_without_showing_it(url: str) -> None:
    with pytest.raises(ConfigError, match="must carry no user") as caught:
        check_url(url)
    assert "pw" not in str(caught.value)
