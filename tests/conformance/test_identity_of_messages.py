"""Which conversations part two answers, and which do not."""

import json
from typing import Any

import pytest

from conformance.asking import Case
from conformance.conversations import DIFFERENT, JSON, SAME, SPELLINGS, Conversation, user

different = pytest.mark.parametrize(
    ("messages", "others"), DIFFERENT.values(), ids=DIFFERENT.keys()
)


def request(case: Case, messages: Conversation) -> JSON:
    """Return a request with these messages, about the subject of the case."""
    filled = json.loads(json.dumps(messages).replace("{it}", case.subject))
    return {**case.body(), "messages": [case.system, *filled]}


@different
def test_conversation_that_differs_is_not_given_the_answer(
    case: Case, messages: Conversation, others: Conversation
) -> None:
    case.learn(request(case, messages))
    assert not case.send(request(case, others)).is_hit


@pytest.mark.conformance_full
@pytest.mark.parametrize("messages", [first for first, _ in DIFFERENT.values()], ids=DIFFERENT)
def test_conversation_that_is_repeated_is_given_the_answer(
    case: Case, messages: Conversation
) -> None:
    assert case.is_repeated(request(case, messages))


@pytest.mark.parametrize(("text", "other"), SPELLINGS.values(), ids=SPELLINGS.keys())
def test_question_that_differs_in_a_character_is_not_given_the_answer(
    case: Case, text: str, other: str
) -> None:
    case.learn(request(case, [user(text)]))
    assert not case.send(request(case, [user(other)])).is_hit


@pytest.mark.parametrize(("content", "other"), SAME.values(), ids=SAME.keys())
def test_question_in_another_form_is_given_the_answer(case: Case, content: Any, other: Any) -> None:
    case.learn(request(case, [user(content)]))
    assert case.send(request(case, [user(other)])).is_hit


def test_order_of_the_keys_of_a_message_parts_no_answers(case: Case) -> None:
    body = request(case, [user("How heavy is a {it}?", name="ann")])
    case.learn(body)
    turned = [dict(reversed(message.items())) for message in body["messages"]]
    assert case.send({**body, "messages": turned}).is_hit


def test_role_of_a_system_prompt_counts(case: Case) -> None:
    ask = user("What is a {it} made of?")
    case.learn(request(case, [{"role": "system", "content": "Rhyme."}, ask]))
    developer = request(case, [{"role": "developer", "content": "Rhyme."}, ask])
    assert not case.send(developer).is_hit
