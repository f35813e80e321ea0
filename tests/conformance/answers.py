"""What the scripted model sends, field by field of the response."""

from typing import Any

JSON = dict[str, Any]

CALLS = [
    {"id": "call_1", "type": "function", "function": {"name": "look", "arguments": '{"at": 1}'}},
    {"id": "call_2", "type": "function", "function": {"name": "go", "arguments": '{"to": "x y"}'}},
]
CITATION = {
    "type": "url_citation",
    "url_citation": {"start_index": 0, "end_index": 4, "url": "https://example.org", "title": "t"},
}


def token(text: str, logprob: float) -> JSON:
    top = [{"token": text, "logprob": logprob, "bytes": list(text.encode())}]
    return {"token": text, "logprob": logprob, "bytes": list(text.encode()), "top_logprobs": top}


def say(content: str | None, **message: Any) -> JSON:
    """Return the plan of a model that sends this message."""
    return {"message": {"role": "assistant", "content": content, **message}}


def choice(index: int, content: str, **fields: Any) -> JSON:
    message = {"role": "assistant", "content": content}
    return {"index": index, "message": message, "finish_reason": "stop", **fields}


LOGPROBS = {"content": [token("Hello", -0.1), token(" you", -0.25)]}
DETAILS = {
    "prompt_tokens": 30,
    "completion_tokens": 20,
    "total_tokens": 50,
    "prompt_tokens_details": {"cached_tokens": 10},
    "completion_tokens_details": {"reasoning_tokens": 7},
}
ANSWERS: dict[str, JSON] = {
    "a long text": say("A line of text.\n\n" * 60),
    "code": say("```py\nif x:\n\treturn  1\n```\n"),
    "all kinds of characters": say('naïve 你好 \U0001f600 e\u0301 \u200d <b>&amp;</b> \\n "q"'),
    "JSON in the text": say('{"steps": [1, 2.50, null, "\\u00e9"]}'),
    "blanks at both ends": say("  two before, two after  "),
    "reasoning": say("Yes.", reasoning_content="Let me think. It is so."),
    "annotations": say("See.", annotations=[CITATION]),
    "one tool call": {**say(None, tool_calls=CALLS[:1]), "finish_reason": "tool_calls"},
    "two tool calls": {**say(None, tool_calls=CALLS), "finish_reason": "tool_calls"},
    "a text and a tool call": {
        **say("I look.", tool_calls=CALLS[:1]),
        "finish_reason": "tool_calls",
    },
    "log probabilities": {"choices": [choice(0, "Hello you", logprobs=LOGPROBS)]},
    "usage in detail": {**say("Counted."), "usage": DETAILS},
    "a service tier": {**say("Soon."), "extra": {"service_tier": "flex"}},
    "a system fingerprint": {**say("Marked."), "extra": {"system_fingerprint": "fp_of_this"}},
    "a refusal": say(None, refusal="I will not do that."),
    "two choices": {"choices": [choice(0, "Heads, say I."), choice(1, "Tails, say I.")]},
}


def chunk(delta: JSON, finish: str | None = None, **fields: Any) -> JSON:
    """Return one chunk of a stream."""
    part = {"index": 0, "delta": delta, "finish_reason": finish}
    head = {"id": "chatcmpl-odd", "object": "chat.completion.chunk", "created": 1_700_000_000}
    return {**head, "model": "gpt-4o-mini", "choices": [part], **fields}


_OPEN = chunk({"role": "assistant", "content": ""})
_CLOSE = chunk({}, "stop")
_CALL = {"index": 0, "id": "call_1", "type": "function", "function": {"name": "f", "arguments": ""}}


def _argue(piece: str) -> JSON:
    return chunk({"tool_calls": [{"index": 0, "function": {"arguments": piece}}]})


# name of the case: (chunks, the text or the arguments that they add up to)
CHUNKINGS: dict[str, tuple[list[JSON], str]] = {
    "one character a chunk": (
        [_OPEN, *(chunk({"content": letter}) for letter in "Glue it, then wait."), _CLOSE],
        "Glue it, then wait.",
    ),
    "all in one chunk": (
        [chunk({"role": "assistant", "content": "Glue it."}, "stop")],
        "Glue it.",
    ),
    "the finish reason beside the last word": (
        [_OPEN, chunk({"content": "Glue"}), chunk({"content": " it."}, "stop")],
        "Glue it.",
    ),
    "the role in every chunk": (
        [chunk({"role": "assistant", "content": word}) for word in ("Glue", " it.")] + [_CLOSE],
        "Glue it.",
    ),
    "chunks that say nothing": (
        [
            _OPEN,
            chunk({}),
            chunk({"content": "Glue"}),
            chunk({"content": ""}),
            chunk({}),
            chunk({"content": " it."}),
            _CLOSE,
        ],
        "Glue it.",
    ),
    "a letter and its accent apart": (
        [_OPEN, chunk({"content": "cafe"}), chunk({"content": "\u0301"}), _CLOSE],
        "cafe\u0301",
    ),
    "a family of emoji in pieces": (
        [_OPEN, *(chunk({"content": part}) for part in "👩\u200d👧"), _CLOSE],
        "👩\u200d👧",
    ),
    "arguments one character a chunk": (
        [_OPEN, chunk({"tool_calls": [_CALL]}), *map(_argue, '{"at": 1}'), chunk({}, "tool_calls")],
        '{"at": 1}',
    ),
}
