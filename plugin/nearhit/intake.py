"""How our routes take a request in, whoever sends it: before LiteLLM's authentication, too.

A body is bounded, and an object or nothing (of a list or a number LiteLLM's authentication makes a
500). What is refused is not sent back: FastAPI's own refusal holds it, and cannot be written where
it has NaN or a lone surrogate. Of the query nothing comes into the access log: it may be a
question.
"""

import json
from collections.abc import Callable, Coroutine
from typing import Any, Final

from fastapi import HTTPException, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.routing import APIRoute
from starlette.types import Message

MAX_BODY_BYTES: Final = 8 * 2**20
_TOLD: Final = 20  # faults of one request
_MAX_NAME: Final = 100  # characters of a field that a client named


class Route(APIRoute):
    """A route that takes hostile requests in."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """Return FastAPI's handler behind ours."""
        handle = super().get_route_handler()

        async def take(request: Request) -> Response:
            try:
                return await handle(await _bounded(request))
            except RequestValidationError as error:
                return _refusal(error)
            finally:
                # The server writes its access log from it, when the answer begins.
                request.scope["query_string"] = b""

        return take


async def _bounded(request: Request) -> Request:
    """Return the request with its body, which is read to the end and kept if it is not too large.

    Raises:
        HTTPException: it is (413), or is no object (422).
    """
    parts: list[bytes] = []
    size = 0
    async for part in request.stream():
        size += len(part)
        if size <= MAX_BODY_BYTES:
            parts.append(part)
        else:
            parts.clear()
    if size > MAX_BODY_BYTES:
        raise HTTPException(413, f"body must be at most {MAX_BODY_BYTES} bytes; send fewer")
    body = b"".join(parts)
    if body and not body.lstrip().startswith(b"{"):
        raise HTTPException(422, "body must be a JSON object, in UTF-8 without a mark; correct it")

    async def receive() -> Message:
        return {"type": "http.request", "body": body, "more_body": False}

    return Request(request.scope, receive)


def _refusal(error: RequestValidationError) -> Response:
    """Say what is wrong where, as FastAPI does, without what was sent."""
    faults = [
        {
            "type": one["type"],
            "loc": [part if isinstance(part, int) else part[:_MAX_NAME] for part in one["loc"]],
            "msg": one["msg"],
        }
        for one in error.errors()[:_TOLD]
    ]
    return Response(json.dumps({"detail": faults}), 422, media_type="application/json")
