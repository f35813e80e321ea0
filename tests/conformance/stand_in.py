"""What LiteLLM's semantic cache needs beside LiteLLM: a Qdrant and an embedding model.

    python tests/conformance/stand_in.py --port 6333 --data-dir FOLDER

Both are stand-ins on loopback. The store answers the five calls of Qdrant's HTTP API that LiteLLM
makes, exactly: it compares every vector, unquantised, and knows one filter, equality of payload
fields. The embedding model is nearhit's encoder, so that the two caches differ in what they do
with a vector and not in the vector.

Source: Qdrant API reference, "Collections", "Points"; OpenAI API reference, "Embeddings".
"""

import argparse
from pathlib import Path
from typing import Any

import numpy as np
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from nearhit.config import Settings
from nearhit.encoder import Unencodable
from nearhit.encoder.serving import load_encoder

JSON = dict[str, Any]


class Collection:
    """Points by id, found by cosine."""

    def __init__(self) -> None:
        self.points: dict[str, JSON] = {}

    def search(self, asked: JSON) -> list[JSON]:
        """Return the nearest points that have all payload fields that the filter names."""
        wanted = {
            condition["key"]: condition["match"]["value"]
            for condition in (asked.get("filter") or {}).get("must") or []
        }
        found = [
            {"id": name, "score": _cosine(point["vector"], asked["vector"]), **point}
            for name, point in self.points.items()
            if wanted.items() <= point["payload"].items()
        ]
        found.sort(key=lambda point: -float(point["score"]))
        return found[: asked["limit"]]


def _cosine(one: list[float], other: list[float]) -> float:
    ours, theirs = np.asarray(one), np.asarray(other)
    length = float(np.linalg.norm(ours) * np.linalg.norm(theirs))
    return float(ours @ theirs) / length if length else 0.0


def create_app(data_dir: Path) -> Starlette:
    """Return the server of both; the encoder is built in `data_dir` if need be."""
    encoder = load_encoder(Settings(data_dir=data_dir))
    collection = Collection()

    def result(value: Any) -> Response:
        return JSONResponse({"result": value, "status": "ok", "time": 0.0})

    async def exists(request: Request) -> Response:
        return result({"exists": True})

    async def done(request: Request) -> Response:
        return result(True)

    async def put(request: Request) -> Response:
        for point in (await request.json())["points"]:
            kept = {"vector": point["vector"], "payload": point["payload"]}
            collection.points[str(point["id"])] = kept
        return result({"operation_id": 0, "status": "completed"})

    async def search(request: Request) -> Response:
        return result(collection.search(await request.json()))

    async def embed(request: Request) -> Response:
        sent = await request.json()
        texts = [sent["input"]] if isinstance(sent["input"], str) else sent["input"]
        data = []
        for position, text in enumerate(texts):
            vector = await encoder.encode(text)
            if isinstance(vector, Unencodable):
                error = {"message": f"no embedding: {vector.reason}", "code": "invalid_input"}
                return JSONResponse({"error": error}, status_code=400)
            data.append({"object": "embedding", "index": position, "embedding": vector.tolist()})
        usage = {"prompt_tokens": 1, "total_tokens": 1}
        return JSONResponse(
            {"object": "list", "model": sent.get("model"), "data": data, "usage": usage}
        )

    name = "/collections/{name}"
    return Starlette(
        routes=[
            Route(f"{name}/exists", exists),
            Route(f"{name}/index", done, methods=["PUT"]),
            Route(f"{name}/points", put, methods=["PUT"]),
            Route(f"{name}/points/search", search, methods=["POST"]),
            Route(name, done, methods=["GET", "PUT"]),
            Route("/v1/embeddings", embed, methods=["POST"]),
        ]
    )


def main() -> None:
    """Serve on loopback until interrupted."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--port", type=int, default=6333)
    parser.add_argument("--data-dir", type=Path, required=True)
    options = parser.parse_args()
    app = create_app(options.data_dir)
    uvicorn.run(app, host="127.0.0.1", port=options.port, log_level="warning")


if __name__ == "__main__":
    main()
