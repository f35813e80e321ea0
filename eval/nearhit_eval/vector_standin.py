"""A stand-in for a Qdrant server: the few REST calls that LiteLLM makes, in one loopback process.

    python -m nearhit_eval.vector_standin --port 6333

It is no Qdrant. Points stay in memory, search is exact: one product of numpy over the vectors
under one cache key, which at a benchmark's few hundred points is as fast as a server can be.
Quantisation, durability and all that a real server also does are left out, in its favour.
"""

import argparse
import json
import sys
from collections.abc import Sequence
from typing import Any, Final

import numpy as np
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

JSON = dict[str, Any]

_KEY: Final = "litellm_cache_key"
_ROWS: Final = 64  # room at first; doubled when full


class Partition:
    """The points under one cache key: vectors in one array, payloads beside it."""

    def __init__(self, dimension: int) -> None:
        self._vectors = np.zeros((_ROWS, dimension), dtype=np.float32)
        self._points: list[JSON] = []

    def add(self, point: JSON) -> None:
        """Keep a point, its vector brought to unit length."""
        vector = np.asarray(point["vector"], dtype=np.float32)
        if len(self._points) == len(self._vectors):
            self._vectors = np.concatenate([self._vectors, np.zeros_like(self._vectors)])
        self._vectors[len(self._points)] = vector / np.linalg.norm(vector)
        self._points.append({"id": point["id"], "payload": point["payload"]})

    def nearest(self, vector: Sequence[float], limit: int) -> list[JSON]:
        """Return the most similar points with their cosines."""
        asked = np.asarray(vector, dtype=np.float32)
        cosines = self._vectors[: len(self._points)] @ (asked / np.linalg.norm(asked))
        order = np.argsort(-cosines)[:limit]
        return [
            {**self._points[i], "version": 0, "score": float(cosines[i])} for i in order.tolist()
        ]


def create_app() -> Starlette:
    """Return the server with no point in it."""
    collections: dict[str, dict[str, Partition]] = {}

    async def exists(request: Request) -> JSONResponse:
        return _result({"exists": request.path_params["name"] in collections})

    async def collection(request: Request) -> JSONResponse:
        name = request.path_params["name"]
        if request.method == "PUT":
            collections[name] = {}
            return _result(True)
        return _result({"status": "green", "points_count": len(collections.get(name, {}))})

    async def index(request: Request) -> JSONResponse:
        return _result({"status": "completed"})

    async def put(request: Request) -> JSONResponse:
        partitions = collections[request.path_params["name"]]
        for point in json.loads(await request.body())["points"]:
            key = point["payload"][_KEY]
            if key not in partitions:
                partitions[key] = Partition(len(point["vector"]))
            partitions[key].add(point)
        return _result({"status": "completed"})

    async def search(request: Request) -> JSONResponse:
        asked = json.loads(await request.body())
        key = asked["filter"]["must"][0]["match"]["value"]
        partition = collections[request.path_params["name"]].get(key)
        return _result(partition.nearest(asked["vector"], asked["limit"]) if partition else [])

    return Starlette(
        routes=[
            Route("/healthz", index),
            Route("/collections/{name}/exists", exists),
            Route("/collections/{name}", collection, methods=["GET", "PUT"]),
            Route("/collections/{name}/index", index, methods=["PUT"]),
            Route("/collections/{name}/points", put, methods=["PUT"]),
            Route("/collections/{name}/points/search", search, methods=["POST"]),
        ]
    )


def main(argv: Sequence[str] | None = None) -> int:
    """Serve on loopback until interrupted."""
    parser = argparse.ArgumentParser(prog="python -m nearhit_eval.vector_standin")
    parser.add_argument("--port", type=int, default=6333)
    options = parser.parse_args(argv)
    uvicorn.run(create_app(), host="127.0.0.1", port=options.port, log_level="warning")
    return 0


def _result(result: object) -> JSONResponse:
    return JSONResponse({"result": result, "status": "ok", "time": 0.0})


if __name__ == "__main__":
    sys.exit(main())
