"""What must and what must not share an answer."""

import copy
import json
import random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nearhit.config import DEFAULT_FRESHNESS
from nearhit.decision import Bypass
from nearhit.request import (
    HARMLESS,
    Policy,
    Question,
    canonical,
    freshness_pattern,
    normalise,
    read,
)

SECRET = b"a secret of this installation"
POLICY = Policy(max_turns=4, max_temperature=1.0, freshness=freshness_pattern(DEFAULT_FRESHNESS))
TENANT = ("key", "alice")


def body_of(text: Any = "How do I undo a commit?", **fields: Any) -> dict[str, Any]:
    return {"model": "a-model", "messages": [{"role": "user", "content": text}], **fields}


def ask(body: Any, tenant: tuple[str, ...] = TENANT, secret: bytes = SECRET) -> Question | Bypass:
    return read(body, tenant, POLICY, secret)


def question(body: Any, tenant: tuple[str, ...] = TENANT, secret: bytes = SECRET) -> Question:
    found = ask(body, tenant, secret)
    assert isinstance(found, Question), found
    return found


# Any JSON at all, lone surrogates included: a client can send what its parser lets through.
json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**53), 2**53)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)
_FOLDED = {"temperature", "top_p", "presence_penalty", "frequency_penalty"}
_KNOWN = {"model", "messages", "n", *_FOLDED, *HARMLESS}
field_names = st.text(min_size=1).filter(lambda name: name not in _KNOWN)
fields = st.dictionaries(field_names, json_values, max_size=4)


def shuffled(value: Any, rng: random.Random) -> Any:
    """The same JSON with the keys of every object in another order."""
    if isinstance(value, dict):
        items = list(value.items())
        rng.shuffle(items)
        return {key: shuffled(inner, rng) for key, inner in items}
    if isinstance(value, list):
        return [shuffled(inner, rng) for inner in value]
    return value


@given(fields, st.randoms(use_true_random=False))
def test_question_with_keys_in_another_order_is_the_same(extra: Any, rng: random.Random) -> None:
    body = body_of(**extra)
    assert ask(body) == ask(shuffled(body, rng))


@given(json_values, json_values)
def test_canonical_of_two_values_is_equal_only_for_equal_json(a: Any, b: Any) -> None:
    assert (canonical(a) == canonical(b)) == (
        json.dumps(a, sort_keys=True) == json.dumps(b, sort_keys=True)
    )


@given(json_values)
def test_canonical_of_any_json_reads_back_as_it_was(value: Any) -> None:
    assert json.loads(canonical(value)) == value


@given(fields, field_names, json_values, json_values)
def test_scope_of_two_requests_is_equal_only_when_their_fields_are(
    common: Any, name: str, a: Any, b: Any
) -> None:
    one, other = {**common, name: a}, {**common, name: b}
    first, second = question(body_of(**one)), question(body_of(**other))
    assert (first.scope == second.scope) == (canonical(a) == canonical(b))


@given(st.dictionaries(st.sampled_from(sorted(HARMLESS)), json_values, max_size=6))
def test_question_with_delivery_fields_is_the_same_as_without(extra: Any) -> None:
    assert ask(body_of(**extra)) == ask(body_of())


@given(json_values)
def test_read_of_any_json_as_messages_raises_nothing(value: Any) -> None:
    assert isinstance(ask(body_of(messages=value)), Question | Bypass)


@given(json_values)
def test_read_of_any_json_as_content_raises_nothing(value: Any) -> None:
    assert isinstance(ask(body_of(value)), Question | Bypass)


@given(
    st.sampled_from(["model", "n", "temperature", "tools", "stop", "response_format"]), json_values
)
def test_read_of_any_json_in_a_known_field_raises_nothing(name: str, value: Any) -> None:
    assert isinstance(ask(body_of(**{name: value})), Question | Bypass)


@given(st.text(), st.text(), st.text(), st.text())
def test_tenants_never_share_a_scope_however_their_names_are_cut(
    a: str, b: str, c: str, d: str
) -> None:
    if (a, b) != (c, d):
        assert question(body_of(), (a, b)).scope != question(body_of(), (c, d)).scope


@given(st.text())
def test_normalise_twice_is_the_same_as_once(text: str) -> None:
    assert normalise(normalise(text)) == normalise(text)


@pytest.mark.parametrize(
    "fields",
    [
        {"model": "another-model"},
        {"temperature": 0.3},
        {"top_p": 0.5},
        {"max_tokens": 10},
        {"max_completion_tokens": 10},
        {"seed": 7},
        {"stop": ["\n"]},
        {"response_format": {"type": "json_object"}},
        {"reasoning_effort": "high"},
        {"logit_bias": {"50256": -100}},
        {"logprobs": True},
        {"presence_penalty": 1},
        {"frequency_penalty": 1},
        {"verbosity": "low"},
        {"a_field_of_next_year": 1},
        {"extra_body": {"guided_choice": ["yes", "no"]}},
    ],
    ids=lambda fields: next(iter(fields)),
)
def test_question_with_another_answer_field_has_another_scope(fields: dict[str, Any]) -> None:
    assert question(body_of(**fields)).scope != question(body_of()).scope


def test_question_with_another_system_prompt_has_another_scope() -> None:
    scopes = set()
    for prompt in ("You are a lawyer.", "You are a doctor."):
        body = body_of()
        body["messages"].insert(0, {"role": "system", "content": prompt})
        scopes.add(question(body).scope)
    assert len({*scopes, question(body_of()).scope}) == 3


def test_question_after_another_turn_has_another_scope() -> None:
    turns = [{"role": "user", "content": "In git?"}, {"role": "assistant", "content": "Yes."}]
    body = body_of(messages=[*turns, *body_of()["messages"]])
    swapped = copy.deepcopy(body)
    swapped["messages"][0]["content"] = "In svn?"
    assert question(body).scope != question(swapped).scope


def test_question_whose_roles_are_swapped_has_another_scope() -> None:
    last = body_of()["messages"]
    as_system = body_of(messages=[{"role": "system", "content": "Be brief."}, *last])
    as_user = body_of(messages=[{"role": "user", "content": "Be brief."}, *last])
    assert question(as_system).scope != question(as_user).scope


def test_question_with_another_secret_has_another_scope() -> None:
    assert question(body_of()).scope != question(body_of(), secret=b"another secret").scope


def test_question_in_other_words_shares_the_scope_but_not_the_id() -> None:
    first, second = question(body_of("How to undo?")), question(body_of("Undo, how?"))
    assert first.scope == second.scope
    assert first.id != second.id


def test_question_as_the_one_text_part_is_the_same_as_a_string() -> None:
    parts = [{"type": "text", "text": "How do I undo a commit?"}]
    assert question(body_of(parts)) == question(body_of())


@pytest.mark.parametrize(
    ("a", "b"),
    [("  how?\n", "how?"), ("one\r\ntwo", "one\ntwo")],
    ids=["outer white space", "line ends"],
)
def test_question_that_looks_the_same_has_the_same_id(a: str, b: str) -> None:
    assert question(body_of(a)).id == question(body_of(b)).id


@pytest.mark.parametrize(
    ("a", "b"),
    [
        ("a  b", "a b"),
        ("Run It", "run it"),
        ("x\u200by", "xy"),
        ("\ufb01", "fi"),
        ("if:\n\tx", "if:\n x"),
    ],
    ids=["inner white space", "case", "zero width", "ligature", "indentation"],
)
def test_question_that_is_written_otherwise_has_another_id(a: str, b: str) -> None:
    assert question(body_of(a)).id != question(body_of(b)).id


def test_temperature_zero_as_int_and_as_float_is_the_same() -> None:
    assert question(body_of(temperature=0)) == question(body_of(temperature=0.0))


@pytest.mark.parametrize("fields", [{"n": 1}, {"n": None}, {"stop": None}], ids=str)
def test_question_that_spells_out_a_default_is_the_same(fields: dict[str, Any]) -> None:
    assert question(body_of(**fields)) == question(body_of())


IMAGE = {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}}
TEXT = {"type": "text", "text": "What is this?"}


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (body_of([TEXT, IMAGE]), "not_plain_text"),
        (body_of([TEXT, TEXT]), "not_plain_text"),
        (body_of([{**TEXT, "cache_control": {"type": "ephemeral"}}]), "not_plain_text"),
        (
            body_of([TEXT, {"type": "input_audio", "input_audio": {"data": "AAAA"}}]),
            "not_plain_text",
        ),
        (body_of(tools=[{"type": "function", "function": {"name": "f"}}]), "tools"),
        (body_of(tool_choice="auto"), "tools"),
        (body_of(functions=[{"name": "f"}]), "tools"),
        (body_of(modalities=["text", "audio"]), "media"),
        (body_of(temperature=1.2), "temperature"),
        (body_of(temperature="hot"), "temperature"),
        (body_of(messages=[{"role": "user", "content": [IMAGE]}, *body_of()["messages"]]), "media"),
        (
            body_of(
                messages=[
                    {"role": "tool", "content": "4", "tool_call_id": "1"},
                    *body_of()["messages"],
                ]
            ),
            "tool_calls",
        ),
        (
            body_of(
                messages=[
                    {"role": "assistant", "tool_calls": [{"id": "1"}]},
                    *body_of()["messages"],
                ]
            ),
            "tool_calls",
        ),
        (body_of(messages=[{"role": "user", "content": "hi"}] * 6), "many_turns"),
    ],
)
def test_question_that_meaning_cannot_cover_is_exact_only(body: Any, reason: str) -> None:
    assert question(body).exact_only == reason


def test_plain_question_may_be_matched_by_meaning() -> None:
    assert question(body_of(temperature=1.0)).exact_only is None


def test_question_with_another_image_has_another_id() -> None:
    other = {"type": "image_url", "image_url": {"url": "data:image/png;base64,BBBB"}}
    assert question(body_of([TEXT, IMAGE])).id != question(body_of([TEXT, other])).id


def test_text_parts_are_not_the_same_as_their_concatenation() -> None:
    two = [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]
    assert question(body_of(two)).id != question(body_of("a\nb")).id


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        ({"messages": body_of()["messages"]}, "model"),
        (body_of(model=""), "model"),
        (body_of(model="a,b"), "model"),
        (body_of(model=["a"]), "model"),
        (body_of(messages=[]), "messages"),
        (body_of(messages="hello"), "messages"),
        (body_of(messages=["hello"]), "messages"),
        (body_of(messages=[{"role": "assistant", "content": "hi"}]), "last_role"),
        (body_of(messages=[{"content": "hi"}]), "last_role"),
        (body_of(n=2), "several_choices"),
        (body_of(n="1"), "several_choices"),
        (body_of(""), "empty_text"),
        (body_of(" \n "), "empty_text"),
        (body_of(None), "empty_text"),
        (body_of(7), "empty_text"),
        (body_of([IMAGE]), "empty_text"),
        (body_of("a lone \ud800 surrogate"), "not_unicode"),
        (body_of(api_key="sk-mine"), "client_credentials"),
        (body_of(api_base="http://mine"), "client_credentials"),
        (body_of(stop=float("nan")), "not_json"),
        (body_of("What is the weather in Rome?"), "freshness"),
        (body_of("LATEST version of node"), "freshness"),
        (body_of("show   my\norder"), "freshness"),
    ],
)
def test_request_that_is_none_of_its_business_is_bypassed(body: Any, reason: str) -> None:
    assert ask(body) == Bypass(reason)


def test_request_nested_without_end_is_bypassed() -> None:
    deep: Any = "x"
    for _ in range(100_000):
        deep = [deep]
    assert ask(body_of(response_format=deep)) == Bypass("not_json")


@pytest.mark.parametrize(
    "text", ["What is a newspaper?", "priceless art", "whether or not", "an ordering of sets"]
)
def test_freshness_word_inside_another_word_does_not_count(text: str) -> None:
    assert isinstance(ask(body_of(text)), Question)


def test_freshness_words_may_begin_with_any_character() -> None:
    pattern = freshness_pattern(["^up", "]down", "-now", "Ärger heute", "\\d"])
    assert pattern is not None
    for text in ("is it ^up?", "a ]DOWN b", "-now", "ärger  heute", "a \\d"):
        assert pattern.search(text), text
    assert not pattern.search("up down now 7 Ärger")


def test_freshness_list_that_is_empty_matches_nothing() -> None:
    assert freshness_pattern([]) is None
    assert freshness_pattern(["  "]) is None


def test_very_long_conversation_is_read() -> None:
    messages = [{"role": "user", "content": "x" * 100}] * 10_000
    assert question(body_of(messages=messages)).exact_only == "many_turns"
