"""GPTCache behind the OpenAI API on loopback, with nearhit's encoder in its process.

    PYTHONPATH=plugin python eval/nearhit_eval/gptcache_server.py ARTEFACT \
        --upstream http://127.0.0.1:4999 --folder FOLDER --port 4997

Run by an interpreter that has GPTCache, in an environment of its own; it imports no other module of
the evaluation. It is set up as GPTCache's own examples are: SQLite and FAISS, last message, search
distance. The encoder is called where GPTCache calls one, in its event loop.
"""

import argparse
import json
import sys
import time
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any, Final

import httpx
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from nearhit.encoder.artefact import load_artefact
from nearhit.encoder.recipe import GRAPH_FILE, TOKENIZER_FILE
from nearhit.encoder.session import embed, open_session
from nearhit.encoder.tokens import open_tokenizer

JSON = dict[str, Any]

# FAISS gives the squared distance d = 2 - 2 cos, GPTCache compares 4 - d with 4 * threshold.
THRESHOLD: Final = 0.9  # a cosine of .8


def open_cache(artefact: Path, folder: Path) -> Any:
    """Return a GPTCache that is ready."""
    from gptcache import Cache, Config
    from gptcache.manager import manager_factory
    from gptcache.similarity_evaluation.distance import SearchDistanceEvaluation

    session = open_session(artefact / GRAPH_FILE, 1)
    tokenizer = open_tokenizer(artefact / TOKENIZER_FILE)
    dimension = load_artefact(artefact).manifest.dimension

    def encode(text: str, **_: Any) -> Any:
        return embed(session, [tokenizer.encode_batch([text])[0].ids])[0]

    cache = Cache()
    cache.init(
        embedding_func=encode,
        data_manager=manager_factory(
            "sqlite,faiss", data_dir=str(folder), vector_params={"dimension": dimension}
        ),
        similarity_evaluation=SearchDistanceEvaluation(),
        config=Config(similarity_threshold=THRESHOLD),
    )
    return cache


def create_app(cache: Any, upstream: str) -> Starlette:
    """Return the server."""
    from gptcache.adapter.adapter import aadapt

    client = httpx.AsyncClient(base_url=upstream, timeout=60, trust_env=False)

    async def ask(**fields: Any) -> str:
        body = {"model": "scripted", "messages": fields["messages"]}
        reply = await client.post("/v1/chat/completions", json=body)
        return str(reply.raise_for_status().json()["choices"][0]["message"]["content"])

    def keep(answer: str, save: Any, *_: Any, **__: Any) -> str:
        save(answer)
        return answer

    async def complete(request: Request) -> Response:
        sent = json.loads(await request.body())
        text = await aadapt(ask, str, keep, messages=sent["messages"], cache_obj=cache)
        if sent.get("stream"):
            return StreamingResponse(_chunks(text), media_type="text/event-stream")
        choice = {"index": 0, "message": {"role": "assistant", "content": text}}
        return JSONResponse(_head("chat.completion") | {"choices": [choice | _STOP]})

    async def ready(request: Request) -> Response:
        return JSONResponse({})

    return Starlette(
        routes=[
            Route("/healthz", ready),
            Route("/v1/chat/completions", complete, methods=["POST"]),
        ]
    )


_STOP: Final = {"finish_reason": "stop"}


async def _chunks(text: str) -> AsyncIterator[str]:
    """The text as one chunk, which is how GPTCache replays one."""
    head = _head("chat.completion.chunk")
    deltas: list[JSON] = [{"delta": {"role": "assistant", "content": text}}, {"delta": {}} | _STOP]
    for delta in deltas:
        chunk = head | {"choices": [{"index": 0, "finish_reason": None} | delta]}
        yield f"data: {json.dumps(chunk)}\n\n"
    yield "data: [DONE]\n\n"


def _head(kind: str) -> JSON:
    usage = {} if "chunk" in kind else {"usage": dict.fromkeys(_COUNTS, 0)}
    return {
        "id": "chatcmpl-gptcache",
        "object": kind,
        "created": int(time.time()),
        "model": "scripted",
    } | usage


_COUNTS: Final = ("prompt_tokens", "completion_tokens", "total_tokens")


def main(argv: Sequence[str] | None = None) -> int:
    """Serve on loopback until interrupted."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("artefact", type=Path)
    parser.add_argument("--upstream", required=True)
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--port", type=int, required=True)
    options = parser.parse_args(argv)
    cache = open_cache(options.artefact, options.folder)
    app = create_app(cache, options.upstream)
    uvicorn.run(app, host="127.0.0.1", port=options.port, log_level="warning")
    return 0


if __name__ == "__main__":
    sys.exit(main())
