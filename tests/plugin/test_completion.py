"""One stored answer as a body and as a stream, in both directions."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nearhit.completion import Unstorable, as_body, as_chunks, assemble, pack, unpack

USAGE = {
    "prompt_tokens": 9,
    "completion_tokens": 12,
    "total_tokens": 21,
    "completion_tokens_details": {"reasoning_tokens": 5},
}


def body_of(*messages: dict[str, Any], finish: str = "stop", **fields: Any) -> dict[str, Any]:
    choices = [
        {"index": index, "message": {"role": "assistant", **message}, "finish_reason": finish}
        for index, message in enumerate(messages)
    ]
    return {
        "id": "chatcmpl-first",
        "created": 1,
        "object": "chat.completion",
        "model": "a-model",
        "choices": choices,
        "usage": USAGE,
        **fields,
    }


def kept_of(body: dict[str, Any]) -> dict[str, Any]:
    packed = pack(body)
    assert isinstance(packed, str), packed
    return unpack(packed)


def stream_of(body: dict[str, Any], **options: Any) -> list[dict[str, Any]]:
    return list(as_chunks(kept_of(body), "chatcmpl-new", 2, **{"include_usage": True, **options}))


TOOL_CALLS = [
    {"id": "c1", "type": "function", "function": {"name": "look", "arguments": '{"at": "a  b"}'}},
    {"id": "c2", "type": "function", "function": {"name": "go", "arguments": "{}"}},
]
ANNOTATION = {"type": "url_citation", "url_citation": {"url": "https://example.org", "title": "t"}}

MESSAGES = {
    "text": {"content": "Use git reset.\n\n    git reset --soft HEAD~1\n"},
    "reasoning": {"content": "Yes.", "reasoning_content": "Let me think about it. Hm."},
    "refusal": {"content": None, "refusal": "I can not help with that."},
    "tool calls": {"content": None, "tool_calls": TOOL_CALLS},
    "text and tool call": {"content": "Looking.", "tool_calls": TOOL_CALLS[:1]},
    "function call": {"content": None, "function_call": {"name": "f", "arguments": "{}"}},
    "annotations": {"content": "See there.", "annotations": [ANNOTATION]},
    "audio": {"content": None, "audio": {"id": "a", "data": "AAAA", "transcript": "hi"}},
    "thinking": {
        "content": "Yes.",
        "thinking_blocks": [{"type": "thinking", "thinking": "Hm.", "signature": "s"}],
    },
    "unknown field": {"content": "Yes.", "a_field_of_next_year": {"deep": [1, 2]}},
    "no spaces": {"content": "你好" * 200},
}


@pytest.mark.parametrize("message", MESSAGES.values(), ids=MESSAGES.keys())
def test_stream_of_a_stored_body_assembles_to_that_body(message: dict[str, Any]) -> None:
    body = body_of(message)
    assembled = assemble(stream_of(body))
    assert as_body(assembled, "chatcmpl-first", 1) == body


def test_stream_of_several_choices_assembles_to_all_of_them() -> None:
    body = body_of({"content": "Heads."}, {"content": "Tails, I say."})
    assert as_body(assemble(stream_of(body)), "chatcmpl-first", 1) == body


def test_stream_with_log_probabilities_sends_each_with_its_token() -> None:
    tokens: list[dict[str, Any]] = [
        {"token": token, "logprob": -0.1, "top_logprobs": []} for token in ("He", "y ", "you")
    ]
    body = body_of({"content": "Hey you"})
    body["choices"][0]["logprobs"] = {"content": tokens}
    chunks = stream_of(body)
    sent = [
        (part["delta"]["content"], part["logprobs"]["content"])
        for chunk in chunks
        for part in chunk["choices"]
        if part.get("logprobs")
    ]
    assert sent == [(token["token"], [token]) for token in tokens]
    assert as_body(assemble(chunks), "chatcmpl-first", 1) == body


def test_stream_with_log_probabilities_of_other_text_keeps_all_of_them() -> None:
    body = body_of({"content": "Hey"})
    body["choices"][0]["logprobs"] = {"content": [{"token": "bytes:\\xe2", "logprob": -1.0}]}
    assert as_body(assemble(stream_of(body)), "chatcmpl-first", 1) == body


@given(st.text(min_size=1, alphabet=st.characters(exclude_categories=["Cs"])))
def test_stream_of_any_text_joins_to_that_text(text: str) -> None:
    assembled = assemble(stream_of(body_of({"content": text})))
    assert assembled["choices"][0]["message"]["content"] == text


@given(st.text(min_size=1, alphabet=st.characters(exclude_categories=["Cs"])))
def test_stream_of_any_arguments_joins_to_those_arguments(text: str) -> None:
    call = {"id": "c", "type": "function", "function": {"name": "f", "arguments": text}}
    assembled = assemble(stream_of(body_of({"content": None, "tool_calls": [call]})))
    assert assembled["choices"][0]["message"]["tool_calls"] == [call]


def test_stream_of_a_long_text_comes_in_many_chunks() -> None:
    assert len(stream_of(body_of({"content": "word " * 200}))) > 20


def test_stream_opens_with_the_role_and_closes_with_the_finish_reason() -> None:
    chunks = stream_of(body_of({"content": "Hello."}), include_usage=False)
    assert chunks[0]["choices"][0]["delta"]["role"] == "assistant"
    assert [chunk["choices"][0]["finish_reason"] for chunk in chunks] == [None, None, "stop"]


def test_stream_sends_usage_only_when_asked() -> None:
    body = body_of({"content": "Hello."})
    assert stream_of(body, include_usage=True)[-1]["usage"] == USAGE
    assert not any("usage" in chunk for chunk in stream_of(body, include_usage=False))


def test_stream_carries_the_new_id_in_every_chunk() -> None:
    chunks = stream_of(body_of({"content": "Hello there."}))
    assert {(c["id"], c["created"], c["object"]) for c in chunks} == {
        ("chatcmpl-new", 2, "chat.completion.chunk")
    }


def test_body_has_the_new_id_and_all_else_of_the_stored_one() -> None:
    body = body_of({"content": "Hello."}, system_fingerprint="fp", citations=["a"])
    assert as_body(kept_of(body), "new", 5) == {**body, "id": "new", "created": 5}


@pytest.mark.parametrize(
    ("finish", "reason"),
    [
        ("length", "finish_length"),
        ("content_filter", "finish_content_filter"),
        (None, "finish_missing"),
        ("a reason of next year", "finish_other"),
    ],
)
def test_pack_of_an_incomplete_answer_refuses(finish: Any, reason: str) -> None:
    assert pack(body_of({"content": "He"}, finish=finish)) == Unstorable(reason)


@pytest.mark.parametrize("finish", ["stop", "tool_calls", "function_call"])
def test_pack_of_a_complete_answer_keeps_it(finish: str) -> None:
    assert isinstance(pack(body_of({"content": "Hello."}, finish=finish)), str)


def test_pack_of_one_incomplete_choice_among_complete_ones_refuses() -> None:
    body = body_of({"content": "a"}, {"content": "b"})
    body["choices"][1]["finish_reason"] = "length"
    assert pack(body) == Unstorable("finish_length")


@pytest.mark.parametrize("message", [{"content": ""}, {"content": None}, {}])
def test_pack_of_an_empty_answer_refuses(message: dict[str, Any]) -> None:
    assert pack(body_of(message)) == Unstorable("empty")


@pytest.mark.parametrize("choices", [None, [], "x"])
def test_pack_of_an_answer_without_choices_refuses(choices: Any) -> None:
    assert pack({**body_of(), "choices": choices}) == Unstorable("no_choices")


def test_pack_of_a_lone_surrogate_refuses() -> None:
    assert pack(body_of({"content": "\ud800"})) == Unstorable("not_json")


def test_assemble_of_a_stream_cut_short_gives_nothing_that_can_be_stored() -> None:
    chunks = stream_of(body_of({"content": "one two three four five six seven"}))[:2]
    assert pack(assemble(chunks)) == Unstorable("finish_missing")


def test_assemble_of_nothing_gives_nothing_that_can_be_stored() -> None:
    assert pack(assemble([])) == Unstorable("no_choices")


def test_assemble_of_a_thought_in_pieces_joins_it_up_to_its_signature() -> None:
    def chunk(**delta: Any) -> dict[str, Any]:
        return {"choices": [{"index": 0, "delta": delta, "finish_reason": None}]}

    def thought(text: str, signature: str | None = None) -> dict[str, Any]:
        return {"type": "thinking", "thinking": text, "signature": signature}

    message = assemble(
        [
            chunk(thinking_blocks=[thought("Let ")]),
            chunk(thinking_blocks=[thought("me see.")]),
            chunk(thinking_blocks=[thought("", "sig-1")]),
            chunk(thinking_blocks=[thought("And on.", "sig-2")]),
        ]
    )["choices"][0]["message"]
    assert message["thinking_blocks"] == [
        thought("Let me see.", "sig-1"),
        thought("And on.", "sig-2"),
    ]


@pytest.mark.parametrize("packed", ["", "[]", "{}", '{"choices": 3}', "\x00"])
def test_unpack_of_what_is_no_completion_raises_value_error(packed: str) -> None:
    with pytest.raises(ValueError, match=r"choices|Expecting"):
        unpack(packed)


def test_pack_keeps_text_readable() -> None:
    packed = pack(body_of({"content": "naïve 你好"}))
    assert isinstance(packed, str)
    assert "naïve 你好" in packed
    assert json.loads(packed)["choices"][0]["message"]["content"] == "naïve 你好"
