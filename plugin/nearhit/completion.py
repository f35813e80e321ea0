"""One stored completion, served as a body or as a stream, made from a body or from a stream.

Works on the JSON of the OpenAI chat API, as dictionaries; knows neither LiteLLM nor a store.
What a client cannot tell from the model's own answer: every field of the message, finish
reason, log probabilities and usage come back; `id` and `created` are new, since they name
this answer and not the stored one.

Source: OpenAI API reference, "The chat completion object", "The chat completion chunk object".
"""

import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

JSON = dict[str, Any]

_COMPLETE = frozenset({"stop", "tool_calls", "function_call"})
# A fixed few: reasons become labels of a metric, and a model may send anything.
_INCOMPLETE: dict[object, str] = {
    None: "finish_missing",
    "length": "finish_length",
    "content_filter": "finish_content_filter",
}
_OWN_TO_ONE_ANSWER = frozenset({"id", "created", "object"})
# About one line of a terminal every three chunks: models send 1 to 10 tokens at a time.
# The bound on a word keeps text without spaces (Chinese, base64) from coming in one lump.
_PIECE = re.compile(r"\s*\S{1,24}(?:\s+\S{1,24}){0,3}\s*|\s+")
_TEXT_FIELDS = ("reasoning_content", "content", "refusal")


@dataclass(frozen=True, slots=True)
class Unstorable:
    """Why an answer must not be stored."""

    reason: str


def pack(body: Mapping[str, Any]) -> str | Unstorable:
    """Encode a complete, successful answer for the store, or say why it is none."""
    choices = body.get("choices")
    if not isinstance(choices, list) or not choices:
        return Unstorable("no_choices")
    for choice in choices:
        message = choice.get("message") or {}
        finish = choice.get("finish_reason")
        if finish not in _COMPLETE:
            return Unstorable(_INCOMPLETE.get(finish, "finish_other"))
        if not any(value for name, value in message.items() if name != "role"):
            return Unstorable("empty")
    kept = {name: value for name, value in body.items() if name not in _OWN_TO_ONE_ANSWER}
    try:
        packed = json.dumps(kept, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
        packed.encode("utf-8")
    except (RecursionError, TypeError, ValueError):
        return Unstorable("not_json")
    return packed


def unpack(packed: str) -> JSON:
    """Decode what `pack` made.

    Raises:
        ValueError: it is no stored completion.
    """
    kept = json.loads(packed)
    choices = kept.get("choices") if isinstance(kept, dict) else None
    if not isinstance(choices, list) or not all(_is_choice(choice) for choice in choices):
        raise ValueError("a stored completion must be an object with choices")
    return dict(kept)


def as_body(kept: Mapping[str, Any], answer_id: str, created: int) -> JSON:
    """Return the completion as one body; `created` in unix seconds."""
    return {**kept, "id": answer_id, "created": created, "object": "chat.completion"}


def as_chunks(
    kept: Mapping[str, Any], answer_id: str, created: int, *, include_usage: bool
) -> Iterator[JSON]:
    """Yield the completion as a stream: role, text in pieces, tool calls, finish, usage."""
    head = {
        **{name: value for name, value in kept.items() if name not in ("choices", "usage")},
        "id": answer_id,
        "created": created,
        "object": "chat.completion.chunk",
    }
    for choice in kept["choices"]:
        index = choice.get("index", 0)
        for delta, logprobs in _deltas(choice):
            yield {**head, "choices": [_choice(index, delta, None, logprobs)]}
        yield {**head, "choices": [_choice(index, {}, choice.get("finish_reason"), None)]}
    if include_usage and kept.get("usage") is not None:
        yield {**head, "choices": [], "usage": kept["usage"]}


def assemble(chunks: Iterable[Mapping[str, Any]]) -> JSON:
    """Put a stream together to the body that the same answer would have been.

    A choice whose finish reason never came has None, so `pack` refuses a stream cut short.
    """
    body: JSON = {}
    choices: dict[int, JSON] = {}
    for chunk in chunks:
        for name, value in chunk.items():
            if name != "choices" and value is not None:
                body[name] = value
        for part in chunk.get("choices") or []:
            index = part.get("index") or 0
            choice = choices.setdefault(
                index, {"index": index, "message": {"role": "assistant"}, "finish_reason": None}
            )
            if part.get("finish_reason") is not None:
                choice["finish_reason"] = part["finish_reason"]
            if part.get("logprobs"):
                _extend_logprobs(choice.setdefault("logprobs", {}), part["logprobs"])
            _merge(choice["message"], part.get("delta") or {})
    for choice in choices.values():
        _close(choice["message"])
    body["choices"] = [choices[index] for index in sorted(choices)]
    return body


def _is_choice(choice: object) -> bool:
    return (
        isinstance(choice, dict)
        and isinstance(choice.get("index", 0), int)
        and isinstance(choice.get("message"), dict)
    )


def _choice(index: int, delta: JSON, finish: object, logprobs: object) -> JSON:
    choice = {"index": index, "delta": delta, "finish_reason": finish}
    if logprobs is not None:
        choice["logprobs"] = logprobs
    return choice


def _deltas(choice: Mapping[str, Any]) -> Iterator[tuple[JSON, JSON | None]]:
    """Yield the deltas of one choice, each with its share of the log probabilities."""
    message = choice["message"]
    whole = {
        name: value
        for name, value in message.items()
        if value is not None and name not in (*_TEXT_FIELDS, "tool_calls", "function_call")
    }
    opening = {"content": ""} if isinstance(message.get("content"), str) else {}
    yield {"role": "assistant", **opening, **whole}, None
    logprobs = choice.get("logprobs") or {}
    for field in _TEXT_FIELDS:
        text = message.get(field)
        if isinstance(text, str) and text:
            for piece, tokens in _pieces(text, logprobs.get(field)):
                yield {field: piece}, {field: tokens} if tokens else None
    if message.get("function_call"):
        yield {"function_call": message["function_call"]}, None
    for position, call in enumerate(message.get("tool_calls") or []):
        yield from ((delta, None) for delta in _tool_call_deltas(position, call))


def _pieces(text: str, tokens: object) -> Iterator[tuple[str, list[JSON] | None]]:
    """Cut a text at word ends, or at the tokens that its log probabilities name."""
    if isinstance(tokens, list) and tokens:
        if "".join(str(token.get("token", "")) for token in tokens) == text:
            yield from ((token["token"], [token]) for token in tokens)
        else:
            yield text, tokens
        return
    yield from ((piece, None) for piece in _PIECE.findall(text))


def _tool_call_deltas(position: int, call: Mapping[str, Any]) -> Iterator[JSON]:
    function = call.get("function")
    if not isinstance(function, dict) or not isinstance(function.get("arguments"), str):
        yield {"tool_calls": [{**call, "index": position}]}
        return
    opening = {**call, "index": position, "function": {**function, "arguments": ""}}
    yield {"tool_calls": [opening]}
    for piece in _PIECE.findall(function["arguments"]):
        yield {"tool_calls": [{"index": position, "function": {"arguments": piece}}]}


def _merge(target: JSON, delta: Mapping[str, Any]) -> None:
    """Add a delta to a message: text grows, lists grow, tool calls and thoughts by position."""
    for name, value in delta.items():
        if value is None or (name == "role" and not value):
            continue
        if name == "role":
            target[name] = value
        elif name == "tool_calls":
            _merge_calls(target.setdefault(name, []), value)
        elif name == "thinking_blocks":
            _merge_thoughts(target.setdefault(name, []), value)
        elif isinstance(value, str) and isinstance(target.get(name), str):
            target[name] += value
        elif isinstance(value, list) and isinstance(target.get(name), list):
            target[name] = [*target[name], *value]
        elif isinstance(value, dict) and isinstance(target.get(name), dict):
            target[name] = dict(target[name])
            _merge(target[name], value)
        else:
            target[name] = value


def _close(message: JSON) -> None:
    """Make what only a stream has into what a body has."""
    for call in message.get("tool_calls") or []:
        call.pop("index", None)
    if not message.get("content"):
        # A stream opens with "" whatever comes; a body without text has null.
        message["content"] = None


def _merge_calls(calls: list[JSON], parts: Sequence[Mapping[str, Any]]) -> None:
    for part in parts:
        index = part.get("index", len(calls))
        call = next((known for known in calls if known.get("index") == index), None)
        if call is None:
            call = {"index": index, "function": {}}
            calls.append(call)
        for name, value in part.items():
            if name == "function" and isinstance(value, Mapping):
                for key, text in value.items():
                    if isinstance(text, str) and key == "arguments":
                        call["function"][key] = call["function"].get(key, "") + text
                    elif text is not None:
                        call["function"][key] = text
            elif value is not None:
                call[name] = value


def _merge_thoughts(blocks: list[JSON], parts: Sequence[Mapping[str, Any]]) -> None:
    """Join the pieces of one thought; a signature closes it.

    Source: Anthropic API reference, "Extended thinking", streaming events.
    """
    for part in parts:
        open_block = blocks[-1] if blocks and not blocks[-1].get("signature") else None
        if open_block is not None and open_block.get("type") == part.get("type") == "thinking":
            open_block["thinking"] = (open_block.get("thinking") or "") + (
                part.get("thinking") or ""
            )
            if part.get("signature"):
                open_block["signature"] = part["signature"]
        else:
            blocks.append(dict(part))


def _extend_logprobs(target: JSON, part: Mapping[str, Any]) -> None:
    for name, tokens in part.items():
        if isinstance(tokens, list):
            target[name] = [*(target.get(name) or []), *tokens]
        else:
            target.setdefault(name, tokens)
