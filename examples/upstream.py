"""A scripted model behind the OpenAI API: a real HTTP server for demos and tests.

    python examples/upstream.py --port 4999

It answers each question with a text of its own that carries a serial number, so that an answer
from the model can be told from a stored one; as a body or as a stream in several chunks with
pauses. What it does next can be scripted over HTTP:

    POST /control/script   {"message": {...}, "finish_reason": "stop", "usage": {...},
                            "choices": [...], "extra": {...}, "chunks": [...], "pause_s": 0.01,
                            "delay_s": 0, "status": 200, "cut_after": 3, "stall_after": 3,
                            "error_after": 3, "raw": "...",
                            "texts": {"a model": "its answer"}}; {} is the default
                           `?about=TEXT`: only for requests whose messages contain TEXT
    GET  /control/calls    {"count": 2, "requests": [bodies as received]}
                           `?about=TEXT`: of the last 1000, those whose messages contain TEXT
    POST /control/reset    forget calls and scripts

`cut_after`, `stall_after` and `error_after` are positions in the stream; a body is cut in its
middle wherever `cut_after` is. `raw` is sent in place of a body, with status 200.
"""

import argparse
import asyncio
import json
import time
from collections.abc import AsyncIterator, Iterator
from typing import Any

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

JSON = dict[str, Any]
STALL_S = 30

ANSWERS = {
    "enable": "Open Settings, choose Password and authentication, then click Enable two-factor "
    "authentication and scan the code with your authenticator app.",
    "disable": "Open Settings, choose Password and authentication, then click Disable next to "
    "two-factor authentication and confirm with your password.",
}


class Script:
    """What the model does next, and what it has been asked."""

    def __init__(self) -> None:
        self.plan: JSON = {}
        self.plans: dict[str, JSON] = {}
        self.requests: list[JSON] = []
        self.count = 0

    def plan_of(self, request: JSON) -> JSON:
        """Return what to do with this request: the plan about the longest text in it, if any."""
        said = _said(request)
        about = max((text for text in self.plans if text in said), key=len, default=None)
        return self.plan if about is None else self.plans[about]

    def asked(self, about: str) -> list[JSON]:
        """Return the requests whose messages contain this text."""
        return [request for request in self.requests if about in _said(request)]

    def answer(self, request: JSON) -> JSON:
        """Return the completion of this request as a body."""
        self.count += 1
        self.requests = [*self.requests[-999:], request]
        plan = self.plan_of(request)
        text = _question(request)
        known = next((answer for word, answer in ANSWERS.items() if word in text.lower()), None)
        said = (plan.get("texts") or {}).get(request.get("model"))
        message = plan.get("message") or {
            "role": "assistant",
            "content": said or f"{known or 'You asked: ' + text[:200]} (answer {self.count})",
        }
        usage = {
            "prompt_tokens": len(text.split()) + 8,
            "completion_tokens": len(str(message.get("content")).split()),
        }
        usage["total_tokens"] = sum(usage.values())
        choice = {
            "index": 0,
            "message": message,
            "finish_reason": plan.get("finish_reason", "stop"),
        }
        return {
            "id": f"chatcmpl-upstream-{self.count}",
            "object": "chat.completion",
            "created": int(time.time()),
            "model": request.get("model", "scripted"),
            "choices": plan.get("choices") or [choice],
            "usage": plan.get("usage") or usage,
            "system_fingerprint": "fp_scripted",
            **(plan.get("extra") or {}),
        }


def _question(request: JSON) -> str:
    messages = request.get("messages") or [{}]
    content = messages[-1].get("content")
    return content if isinstance(content, str) else json.dumps(content)


def _said(request: JSON) -> str:
    """Return all text in the messages of a request."""
    return "\n".join(_strings(request.get("messages")))


def _strings(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict | list):
        for inner in value.values() if isinstance(value, dict) else value:
            yield from _strings(inner)


def _chunks(body: JSON) -> list[JSON]:
    """Cut a body into chunks the way a model sends them: a word at a time."""
    head = {key: value for key, value in body.items() if key not in ("choices", "usage")}
    head["object"] = "chat.completion.chunk"
    chunks = []
    for choice in body["choices"]:
        message = choice["message"]
        deltas: list[JSON] = [{"role": "assistant", "content": ""}]
        for field in ("reasoning_content", "content", "refusal"):
            words = (message.get(field) or "").split(" ")
            pieces = [word + (" " if i < len(words) - 1 else "") for i, word in enumerate(words)]
            deltas += [{field: piece} for piece in pieces if piece]
        for position, call in enumerate(message.get("tool_calls") or []):
            function = call["function"]
            opening = {**call, "index": position, "function": {**function, "arguments": ""}}
            deltas.append({"tool_calls": [opening]})
            half = len(function["arguments"]) // 2
            for part in (function["arguments"][:half], function["arguments"][half:]):
                call_part = {"index": position, "function": {"arguments": part}}
                deltas.append({"tool_calls": [call_part]})
        for field in ("annotations", "audio"):
            if message.get(field):
                deltas.append({field: message[field]})
        parts = [{"index": choice["index"], "delta": delta} for delta in deltas]
        if choice.get("logprobs"):
            parts[1]["logprobs"] = choice["logprobs"]
        parts.append(
            {"index": choice["index"], "delta": {}, "finish_reason": choice["finish_reason"]}
        )
        chunks += [{**head, "choices": [{"finish_reason": None, **part}]} for part in parts]
    return chunks


def create_app(script: Script) -> Starlette:
    """Return the server; `script` may be shared with whoever drives it."""

    async def complete(request: Request) -> Response:
        sent = json.loads(await request.body())
        body = script.answer(sent)
        plan = dict(script.plan_of(sent))
        await asyncio.sleep(plan.get("delay_s", 0))
        if plan.get("status", 200) != 200:
            error = {"message": "scripted failure", "type": "server_error", "code": None}
            return JSONResponse({"error": error}, status_code=plan["status"])
        if plan.get("raw") is not None:
            return Response(plan["raw"], media_type="application/json")
        if not sent.get("stream") and plan.get("cut_after") is not None:
            return StreamingResponse(_half(body), media_type="application/json")
        if not sent.get("stream"):
            return JSONResponse(body)
        chunks = plan.get("chunks") or _chunks(body)
        if (sent.get("stream_options") or {}).get("include_usage"):
            head = {key: value for key, value in chunks[0].items() if key != "choices"}
            chunks = [*chunks, {**head, "choices": [], "usage": body["usage"]}]
        return StreamingResponse(_send(chunks, plan), media_type="text/event-stream")

    async def _send(chunks: list[JSON], plan: JSON) -> AsyncIterator[str]:
        for position, chunk in enumerate(chunks):
            if position == plan.get("cut_after"):
                raise ConnectionError("scripted cut")
            if position == plan.get("stall_after"):
                await asyncio.sleep(STALL_S)
            if position == plan.get("error_after"):
                yield f"data: {json.dumps({'error': {'message': 'scripted failure'}})}\n\n"
                return
            yield f"data: {json.dumps(chunk)}\n\n"
            await asyncio.sleep(plan.get("pause_s", 0.002))
        yield "data: [DONE]\n\n"

    async def _half(body: JSON) -> AsyncIterator[str]:
        text = json.dumps(body)
        yield text[: len(text) // 2]
        raise ConnectionError("scripted cut")

    async def plan(request: Request) -> Response:
        about = request.query_params.get("about")
        if about is None:
            script.plan = await request.json()
        else:
            script.plans[about] = await request.json()
        return JSONResponse({})

    async def calls(request: Request) -> Response:
        about = request.query_params.get("about")
        if about is None:
            return JSONResponse({"count": script.count, "requests": script.requests})
        asked = script.asked(about)
        return JSONResponse({"count": len(asked), "requests": asked})

    async def reset(request: Request) -> Response:
        script.plan, script.plans, script.requests, script.count = {}, {}, [], 0
        return JSONResponse({})

    async def models(request: Request) -> Response:
        return JSONResponse({"object": "list", "data": []})

    return Starlette(
        routes=[
            Route("/v1/chat/completions", complete, methods=["POST"]),
            Route("/v1/models", models),
            Route("/control/script", plan, methods=["POST"]),
            Route("/control/calls", calls),
            Route("/control/reset", reset, methods=["POST"]),
        ]
    )


def main() -> None:
    """Serve on loopback until interrupted."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--port", type=int, default=4999)
    options = parser.parse_args()
    app = create_app(Script())
    # A connection that is closed just as the proxy takes it up again is an error to its client.
    uvicorn.run(
        app, host="127.0.0.1", port=options.port, log_level="warning", timeout_keep_alive=600
    )


if __name__ == "__main__":
    main()
