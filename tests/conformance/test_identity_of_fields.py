"""Which fields of a request part two answers, and which do not."""

import json

import pytest

from conformance.asking import Case
from conformance.fields import ANSWER_FIELDS, HARMLESS_FIELDS, JSON, TOOLS

answer_fields = pytest.mark.parametrize(
    ("fields", "others"), ANSWER_FIELDS.values(), ids=ANSWER_FIELDS.keys()
)


@answer_fields
def test_request_with_another_value_is_not_given_the_answer(
    case: Case, fields: JSON, others: JSON
) -> None:
    case.learn(case.body(**fields))
    assert not case.send(case.body(**others)).is_hit


@answer_fields
def test_request_without_the_field_is_not_given_the_answer(
    case: Case, fields: JSON, others: JSON
) -> None:
    case.learn(case.body(**fields))
    assert not case.send(case.body()).is_hit


@pytest.mark.conformance_full
@answer_fields
def test_request_with_the_same_field_is_given_the_answer(
    case: Case, fields: JSON, others: JSON
) -> None:
    assert case.is_repeated(case.body(**fields))


@pytest.mark.parametrize(("fields", "others"), HARMLESS_FIELDS.values(), ids=HARMLESS_FIELDS.keys())
def test_requests_that_differ_in_what_changes_no_answer_share_it(
    case: Case, fields: JSON, others: JSON
) -> None:
    case.learn(case.body(**fields))
    assert case.send(case.body(**others)).is_hit


def test_service_tier_asked_again_is_given_the_answer(case: Case) -> None:
    assert case.is_repeated(case.body(service_tier="flex"))


def test_request_for_two_choices_asked_again_is_given_the_answer(case: Case) -> None:
    assert case.is_repeated(case.body(n=2))


def test_request_for_two_choices_is_not_given_the_answer_with_one(case: Case) -> None:
    case.learn(case.body())
    assert not case.send(case.body(n=2)).is_hit


def test_request_for_one_choice_is_not_given_the_answer_with_two(case: Case) -> None:
    case.learn(case.body(n=2))
    assert not case.send(case.body()).is_hit


def test_request_to_another_model_is_not_given_the_answer(case: Case) -> None:
    case.learn(case.body())
    assert not case.send(case.body(model=case.target.other_model)).is_hit


def test_order_of_the_fields_of_a_request_parts_no_answers(case: Case) -> None:
    body = case.body(temperature=0.3, top_p=0.8, tools=TOOLS, seed=4)
    case.learn(body)
    assert case.send(_turned(body)).is_hit


def test_white_space_between_the_fields_of_a_request_parts_no_answers(case: Case) -> None:
    body = case.body(temperature=0.3, seed=4)
    case.learn(body)
    assert case.send(json.dumps(body, indent=4).encode()).is_hit


def test_escaped_characters_of_a_request_are_the_characters(case: Case) -> None:
    body = case.body(f"{case.question} It is 3 cm wide, für außen.")
    case.learn(json.dumps(body, ensure_ascii=True).encode())
    assert case.send(json.dumps(body, ensure_ascii=False).encode()).is_hit


def test_value_that_reads_like_another_field_is_not_taken_for_it(case: Case) -> None:
    case.learn(case.body(stop="END", temperature=1))
    assert not case.send(case.body(stop="ENDtemperature: 1")).is_hit


def test_lists_that_run_together_alike_are_not_taken_for_each_other(case: Case) -> None:
    case.learn(case.body(stop=["EN", "DING"]))
    assert not case.send(case.body(stop=["END", "ING"])).is_hit


def test_number_and_its_text_are_not_taken_for_each_other(case: Case) -> None:
    case.learn(case.body(x_level=1))
    assert not case.send(case.body(x_level="1")).is_hit


def test_true_and_one_are_not_taken_for_each_other(case: Case) -> None:
    case.learn(case.body(x_level=True))
    assert not case.send(case.body(x_level=1)).is_hit


def _turned(value: object) -> JSON:
    """Return the same JSON with the keys of all objects in the opposite order."""

    def turn(inner: object) -> object:
        if isinstance(inner, dict):
            return {name: turn(inner[name]) for name in reversed(inner)}
        return [turn(part) for part in inner] if isinstance(inner, list) else inner

    turned = turn(value)
    assert isinstance(turned, dict)
    return turned
