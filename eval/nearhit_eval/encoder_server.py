"""An OpenAI-compatible embedding endpoint on loopback with nearhit's encoder behind it.

    python -m nearhit_eval.encoder_server ARTEFACT --port 4998

For caches that call a model for their vectors: so they have the same vectors as nearhit. Questions
seen before are encoded again, as they are by every other side of the benchmark.
"""

import argparse
import base64
import json
import sys
from collections.abc import Sequence
from pathlib import Path

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from nearhit.encoder import Unencodable
from nearhit.encoder.artefact import load_artefact
from nearhit.encoder.runtime import OnnxEncoder


def create_app(encoder: OnnxEncoder) -> Starlette:
    """Return the server."""

    async def embed(request: Request) -> Response:
        asked = json.loads(await request.body())
        texts = [asked["input"]] if isinstance(asked["input"], str) else asked["input"]
        data: list[dict[str, object]] = []
        for index, text in enumerate(texts):
            found = await encoder.encode(text)
            if isinstance(found, Unencodable):
                return JSONResponse({"error": {"message": "no vector"}}, status_code=400)
            vector: object = found.tolist()
            if asked.get("encoding_format") == "base64":
                vector = base64.b64encode(found.astype("<f4").tobytes()).decode()
            data.append({"object": "embedding", "index": index, "embedding": vector})
        usage = {"prompt_tokens": 1, "total_tokens": 1}
        return JSONResponse(
            {"object": "list", "data": data, "model": asked["model"], "usage": usage}
        )

    async def ready(request: Request) -> Response:
        return JSONResponse({})

    return Starlette(
        routes=[
            Route("/healthz", ready),
            Route("/v1/embeddings", embed, methods=["POST"]),
        ]
    )


def main(argv: Sequence[str] | None = None) -> int:
    """Serve on loopback until interrupted."""
    parser = argparse.ArgumentParser(prog="python -m nearhit_eval.encoder_server")
    parser.add_argument("artefact", type=Path)
    parser.add_argument("--port", type=int, default=4998)
    options = parser.parse_args(argv)
    encoder = OnnxEncoder.load(load_artefact(options.artefact), repeats_bytes=0)
    uvicorn.run(create_app(encoder), host="127.0.0.1", port=options.port, log_level="warning")
    return 0


if __name__ == "__main__":
    sys.exit(main())
