"""A stand-in for a Qdrant server: the REST calls that nearhit makes, answered by Qdrant Edge.

    python tests/qdrant_standin.py --port 6333 --folder /tmp/points [--api-key KEY]

Edge is the server's own engine, so filters, ids, conditional writes and vectors are real; routing,
replicas, gRPC and the optimiser are not there. It can be told to fail:

    POST /control/fault {"kind": "status", "status": 503}    also hang, late, cut, garbage, empty,
                                                             foreign; "times": how often
    POST /control/fault {"kind": "version", "version": "1.9.0"}
    POST /control/fault {}                                   works again
    GET  /control/calls                                      how many calls of /collections came
"""

import argparse
import asyncio
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from uuid import UUID

import qdrant_edge as edge
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

JSON = dict[str, Any]
VERSION = "1.20.0"


class Faults:
    """Lets through, or fails as it was told; asks for the key."""

    def __init__(self, app: ASGIApp, control: JSON, key: str | None) -> None:
        self._app = app
        self._control = control
        self._key = key

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["path"].startswith("/control"):
            return await self._app(scope, receive, send)
        self._control["calls"] += scope["path"].startswith("/collections")
        keys = [value.decode() for name, value in scope["headers"] if name == b"api-key"]
        fault = self._control["fault"]
        if "times" in fault:
            fault["times"] -= 1
            if fault["times"] < 0:
                fault = {}
        response: Response | None = None
        match fault.get("kind"):
            case "status":
                response = Response("said nothing of use", status_code=fault["status"])
            case "hang":
                await asyncio.sleep(3600)
            case "cut":
                await send(
                    {
                        "type": "http.response.start",
                        "status": 200,
                        "headers": [(b"content-length", b"1000")],
                    }
                )
                return None
            case "garbage":
                response = Response(b'{"result": [{"id": \xff', media_type="application/json")
            case "empty":
                response = JSONResponse({"result": None, "status": "ok", "time": 0})
            case "late":
                await asyncio.sleep(fault["seconds"])
        if self._key is not None and keys != [self._key]:
            response = Response("Must provide an API key", status_code=401)
        return await (response or self._app)(scope, receive, send)


class Standin:
    """The collections, each a shard in a folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.shards: dict[str, edge.EdgeShard] = {}
        self.params: dict[str, JSON] = {}
        self.control: JSON = {"fault": {}, "calls": 0}

    def shard(self, request: Request) -> edge.EdgeShard:
        return self.shards[request.path_params["name"]]

    async def root(self, request: Request) -> Response:
        version = self.control["fault"].get("version", VERSION)
        return JSONResponse({"title": "qdrant - vector search engine", "version": version})

    async def exists(self, request: Request) -> Response:
        return _result({"exists": request.path_params["name"] in self.shards})

    async def create(self, request: Request) -> Response:
        name, body = request.path_params["name"], await request.json()
        if name in self.shards:
            return JSONResponse({"status": {"error": "already exists"}}, status_code=409)
        vectors = body["vectors"]
        config = edge.EdgeConfig(
            vectors=edge.EdgeVectorParams(
                size=vectors["size"],
                distance=getattr(edge.Distance, vectors["distance"]),
                datatype=edge.VectorStorageDatatype.Float16,
            )
        )
        self.shards[name] = edge.EdgeShard.create(str(self.folder / name), config)
        self.params[name] = body
        return _result(True)

    async def drop(self, request: Request) -> Response:
        self.shards.pop(request.path_params["name"]).close()
        return _result(True)

    async def describe(self, request: Request) -> Response:
        name = request.path_params["name"]
        if name not in self.shards:
            return JSONResponse({"status": {"error": "not found"}}, status_code=404)
        info = self.shards[name].info()
        given = ("vectors", "shard_number", "replication_factor", "write_consistency_factor")
        params = {key: self.params[name][key] for key in given if self.params[name].get(key)}
        return _result(
            {
                "status": "green",
                "optimizer_status": "ok",
                "segments_count": 1,
                "points_count": info.points_count,
                "config": {
                    "params": {**params, "on_disk_payload": self.params[name]["on_disk_payload"]},
                    "hnsw_config": {
                        "ef_construct": 100,
                        "full_scan_threshold": 10000,
                        **self.params[name]["hnsw_config"],
                    },
                    "optimizer_config": {
                        "deleted_threshold": 0.2,
                        "vacuum_min_vector_number": 1000,
                        "default_segment_number": 0,
                        "flush_interval_sec": 5,
                    },
                    "quantization_config": self.params[name].get("quantization_config"),
                },
                "payload_schema": {
                    key: {"data_type": schema["type"], "params": schema, "points": 0}
                    for key, schema in self.params[name].get("indexes", {}).items()
                },
            }
        )

    async def index(self, request: Request) -> Response:
        body = await request.json()
        schema = body["field_schema"]
        index: Any = edge.KeywordIndexParams(is_tenant=schema.get("is_tenant"))
        if schema["type"] == "integer":
            index = edge.IntegerIndexParams(lookup=schema["lookup"], range=schema["range"])
        self.shard(request).update(
            edge.UpdateOperation.create_field_index(body["field_name"], index)
        )
        self.params[request.path_params["name"]].setdefault("indexes", {})[body["field_name"]] = (
            schema
        )
        return _done()

    async def upsert(self, request: Request) -> Response:
        body = await request.json()
        points = [
            edge.Point(UUID(point["id"]), point["vector"], point["payload"])
            for point in body["points"]
        ]
        mode = {
            "insert_only": edge.UpdateMode.InsertOnly,
            "update_only": edge.UpdateMode.UpdateOnly,
        }.get(body.get("update_mode"))
        condition = _filter(body.get("update_filter"))
        self.shard(request).update(
            edge.UpdateOperation.upsert_points(points, condition=condition, update_mode=mode)
        )
        return _done()

    async def retrieve(self, request: Request) -> Response:
        body = await request.json()
        ids: list[Any] = [UUID(point_id) for point_id in body["ids"]]
        records = self.shard(request).retrieve(
            ids, body.get("with_payload", True), body.get("with_vector", False)
        )
        return _result([_point(record) for record in records])

    async def query(self, request: Request) -> Response:
        body = await request.json()
        is_foreign = self.control["fault"].get("kind") == "foreign"
        points = self.shard(request).query(
            edge.QueryRequest(
                limit=body["limit"],
                query=edge.Query.Nearest(body["query"]["nearest"]),
                filter=None if is_foreign else _filter(body["filter"]),
                with_payload=True,
                with_vector=True,
            )
        )
        found = [{**_point(point), "score": point.score, "version": 0} for point in points]
        return _result({"points": found})

    async def scroll(self, request: Request) -> Response:
        body = await request.json()
        order = body.get("order_by")
        records, after = self.shard(request).scroll(
            edge.ScrollRequest(
                offset=UUID(body["offset"]) if body.get("offset") else None,
                limit=body["limit"],
                filter=_filter(body.get("filter")),
                with_payload=body["with_payload"],
                with_vector=False,
                order_by=edge.OrderBy(order["key"], edge.Direction.Asc) if order else None,
            )
        )
        offset = None if after is None else str(after)
        points = [_point(record) for record in records]
        return _result({"points": points, "next_page_offset": offset})

    async def count(self, request: Request) -> Response:
        body = await request.json()
        wanted = edge.CountRequest(exact=body["exact"], filter=_filter(body.get("filter")))
        return _result({"count": self.shard(request).count(wanted)})

    async def set_payload(self, request: Request) -> Response:
        body = await request.json()
        self.shard(request).update(
            edge.UpdateOperation.set_payload_by_filter(_filter(body["filter"]), body["payload"])
        )
        return _done()

    async def delete(self, request: Request) -> Response:
        body = await request.json()
        operation = edge.UpdateOperation
        if "filter" in body:
            update = operation.delete_points_by_filter(_filter(body["filter"]))
        else:
            update = operation.delete_points([UUID(point_id) for point_id in body["points"]])
        self.shard(request).update(update)
        return _done()

    async def fault(self, request: Request) -> Response:
        self.control["fault"] = await request.json()
        return JSONResponse({})

    async def calls(self, request: Request) -> Response:
        return JSONResponse({"calls": self.control["calls"]})

    def app(self, key: str | None = None) -> ASGIApp:
        """Return the server."""
        named, points = "/collections/{name}", "/collections/{name}/points"
        routes = [
            Route("/", self.root),
            Route(named + "/exists", self.exists),
            Route(named, self.create, methods=["PUT"]),
            Route(named, self.describe, methods=["GET"]),
            Route(named, self.drop, methods=["DELETE"]),
            Route(named + "/index", self.index, methods=["PUT"]),
            Route(points, self.upsert, methods=["PUT"]),
            Route(points, self.retrieve, methods=["POST"]),
            Route(points + "/query", self.query, methods=["POST"]),
            Route(points + "/scroll", self.scroll, methods=["POST"]),
            Route(points + "/count", self.count, methods=["POST"]),
            Route(points + "/payload", self.set_payload, methods=["POST"]),
            Route(points + "/delete", self.delete, methods=["POST"]),
            Route("/control/fault", self.fault, methods=["POST"]),
            Route("/control/calls", self.calls),
        ]
        return Faults(Starlette(routes=routes), self.control, key)


def _filter(asked: JSON | None) -> Any:
    """Edge's filter of REST's."""
    if asked is None:
        return None
    parts: JSON = {name: [_condition(one) for one in asked[name]] for name in asked if asked[name]}
    return edge.Filter(**parts)


def _condition(asked: JSON) -> Any:
    if "has_id" in asked:
        return edge.HasIdCondition({UUID(point_id) for point_id in asked["has_id"]})
    match, bounds = asked.get("match"), asked.get("range")
    if bounds:
        given = {name: value for name, value in bounds.items() if value is not None}
        return edge.FieldCondition(asked["key"], range=edge.RangeFloat(**given))
    assert match
    value = edge.MatchAny(match["any"]) if "any" in match else edge.MatchValue(match["value"])
    return edge.FieldCondition(asked["key"], match=value)


def _point(record: Any) -> JSON:
    return {"id": str(record.id), "payload": record.payload, "vector": record.vector}


def _result(result: object) -> Response:
    body = json.dumps({"result": result, "status": "ok", "time": 0.0})
    return Response(body, media_type="application/json")


def _done() -> Response:
    return _result({"operation_id": 0, "status": "completed"})


def main(argv: Sequence[str] | None = None) -> int:
    """Serve on loopback until interrupted."""
    parser = argparse.ArgumentParser(prog="python tests/qdrant_standin.py")
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--api-key")
    options = parser.parse_args(argv)
    app = Standin(options.folder).app(options.api_key)
    uvicorn.run(app, host="127.0.0.1", port=options.port, log_level="warning")
    return 0


if __name__ == "__main__":
    sys.exit(main())
