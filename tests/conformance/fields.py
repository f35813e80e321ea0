"""The fields of a chat request: which change the answer, and two values of each that differ."""

from typing import Any

JSON = dict[str, Any]


def tool(name: str, **properties: Any) -> JSON:
    """Return a declared tool."""
    schema = {"type": "object", "properties": properties or {"city": {"type": "string"}}}
    function = {"name": name, "description": f"Calls {name}.", "parameters": schema}
    return {"type": "function", "function": function}


def schema(kind: str) -> JSON:
    """Return a response format whose only field is of this type."""
    inner = {"type": "object", "properties": {"step": {"type": kind}}, "required": ["step"]}
    return {"type": "json_schema", "json_schema": {"name": "steps", "schema": inner}}


TOOLS = [tool("look_up"), tool("book", day={"type": "string"})]

# name of the case: (fields of the request, the same field with another value)
ANSWER_FIELDS: dict[str, tuple[JSON, JSON]] = {
    "temperature": ({"temperature": 0.1}, {"temperature": 0.9}),
    "temperature zero": ({"temperature": 0}, {"temperature": 0.5}),
    "temperature above one": ({"temperature": 1.5}, {"temperature": 1.6}),
    "top_p": ({"top_p": 0.1}, {"top_p": 0.9}),
    "stop": ({"stop": "END"}, {"stop": "HALT"}),
    "stop, a list": ({"stop": ["END", "HALT"]}, {"stop": ["END"]}),
    "seed": ({"seed": 1}, {"seed": 2}),
    "seed zero": ({"seed": 0}, {"seed": 7}),
    "max_tokens": ({"max_tokens": 20}, {"max_tokens": 2000}),
    "max_completion_tokens": ({"max_completion_tokens": 20}, {"max_completion_tokens": 2000}),
    "logprobs": ({"logprobs": True}, {"logprobs": False}),
    "top_logprobs": (
        {"logprobs": True, "top_logprobs": 1},
        {"logprobs": True, "top_logprobs": 5},
    ),
    "presence_penalty": ({"presence_penalty": 0.5}, {"presence_penalty": -0.5}),
    "frequency_penalty": ({"frequency_penalty": 0.5}, {"frequency_penalty": -0.5}),
    "logit_bias": ({"logit_bias": {"50256": -100}}, {"logit_bias": {"50256": 100}}),
    "response_format, its type": (
        {"response_format": {"type": "json_object"}},
        {"response_format": {"type": "text"}},
    ),
    "response_format, its schema": (
        {"response_format": schema("string")},
        {"response_format": schema("integer")},
    ),
    "tools, their names": ({"tools": [tool("look_up")]}, {"tools": [tool("look_down")]}),
    "tools, their parameters": (
        {"tools": [tool("book", day={"type": "string"})]},
        {"tools": [tool("book", day={"type": "integer"})]},
    ),
    "tools, how many": ({"tools": TOOLS}, {"tools": TOOLS[:1]}),
    "tool_choice": (
        {"tools": TOOLS, "tool_choice": "auto"},
        {"tools": TOOLS, "tool_choice": "required"},
    ),
    "tool_choice, a function": (
        {"tools": TOOLS, "tool_choice": {"type": "function", "function": {"name": "look_up"}}},
        {"tools": TOOLS, "tool_choice": {"type": "function", "function": {"name": "book"}}},
    ),
    "parallel_tool_calls": (
        {"tools": TOOLS, "parallel_tool_calls": True},
        {"tools": TOOLS, "parallel_tool_calls": False},
    ),
    "functions": (
        {"functions": [tool("look_up")["function"]]},
        {"functions": [tool("look_down")["function"]]},
    ),
    "reasoning_effort": ({"reasoning_effort": "low"}, {"reasoning_effort": "high"}),
    "verbosity": ({"verbosity": "low"}, {"verbosity": "high"}),
    "modalities": ({"modalities": ["text"]}, {"modalities": ["text", "audio"]}),
    "audio, its voice": (
        {"modalities": ["text", "audio"], "audio": {"voice": "alloy", "format": "wav"}},
        {"modalities": ["text", "audio"], "audio": {"voice": "coral", "format": "wav"}},
    ),
    "audio, its format": (
        {"modalities": ["text", "audio"], "audio": {"voice": "alloy", "format": "wav"}},
        {"modalities": ["text", "audio"], "audio": {"voice": "alloy", "format": "mp3"}},
    ),
    "prediction": (
        {"prediction": {"type": "content", "content": "Take it apart."}},
        {"prediction": {"type": "content", "content": "Leave it alone."}},
    ),
    "a field that nobody knows": ({"x_house_style": "formal"}, {"x_house_style": "playful"}),
    "a nested field that nobody knows": (
        {"x_options": {"style": {"tone": "formal"}}},
        {"x_options": {"style": {"tone": "playful"}}},
    ),
}

# What changes the delivery or the bookkeeping, never the answer.
HARMLESS_FIELDS: dict[str, tuple[JSON, JSON]] = {
    "user": ({"user": "ann"}, {"user": "ben"}),
    "a user and none": ({"user": "ann"}, {}),
    "metadata": ({"metadata": {"page": "home"}}, {"metadata": {"page": "help"}}),
    "metadata and none": ({"metadata": {"page": "home"}}, {}),
    "store": ({"store": True}, {"store": False}),
    "safety_identifier": ({"safety_identifier": "a1"}, {"safety_identifier": "b2"}),
    "prompt_cache_key": ({"prompt_cache_key": "a1"}, {"prompt_cache_key": "b2"}),
    "a body and a stream": ({}, {"stream": True}),
    "a stream and a body": ({"stream": True}, {"stream": False}),
    "stream false and left out": ({"stream": False}, {}),
    "stream_options": (
        {"stream": True, "stream_options": {"include_usage": True}},
        {"stream": True, "stream_options": {"include_usage": False}},
    ),
    "stream_options and none": (
        {"stream": True, "stream_options": {"include_usage": True}},
        {"stream": True},
    ),
    "null and left out": ({"temperature": None, "stop": None, "seed": None}, {}),
    "one choice and left out": ({"n": 1}, {}),
    "a whole number and its decimal form": ({"temperature": 1}, {"temperature": 1.0}),
    "the order of an object's keys": (
        {"logit_bias": {"11": 5, "12": -5}},
        {"logit_bias": {"12": -5, "11": 5}},
    ),
    "the order of a schema's keys": (
        {"response_format": schema("string")},
        {"response_format": dict(reversed(schema("string").items()))},
    ),
}
