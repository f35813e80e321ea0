"""What a client makes of an answer, whether it came as a body or as a stream."""

from typing import Any

from gateway import Reply


def assembled(reply: Reply) -> list[dict[str, Any]]:
    """What a client makes of a stream, in whatever pieces it came: the choices of a body."""
    choices: dict[int, dict[str, Any]] = {}
    for chunk in reply.chunks:
        for part in chunk["choices"]:
            kept = choices.setdefault(part["index"], {"message": {}, "index": part["index"]})
            kept["finish_reason"] = part.get("finish_reason") or kept.get("finish_reason")
            if part.get("logprobs"):
                logprobs = kept.setdefault("logprobs", {"content": []})
                logprobs["content"] += part["logprobs"]["content"]
            _add(kept["message"], part["delta"])
    return [plain(choices[index]) for index in sorted(choices)]


def _add(message: dict[str, Any], delta: dict[str, Any]) -> None:
    for name, value in delta.items():
        if name == "tool_calls":
            calls = message.setdefault("tool_calls", [])
            for part in value:
                if part["index"] == len(calls):
                    calls.append({"type": "function", "function": {"arguments": ""}})
                call = calls[part["index"]]
                call["id"] = part.get("id") or call["id"]
                call["function"]["arguments"] += part["function"].get("arguments") or ""
                call["function"]["name"] = part["function"].get("name") or call["function"]["name"]
        elif isinstance(value, str) and name != "role":
            message[name] = message.get(name, "") + value
        elif value is not None:
            message[name] = value


def plain(choice: dict[str, Any]) -> dict[str, Any]:
    """A choice without what LiteLLM adds to bodies alone, and without fields that say nothing."""
    message = {name: value for name, value in choice["message"].items() if value}
    rest = {name: value for name, value in choice.items() if name != "provider_specific_fields"}
    return {**rest, "message": message}
