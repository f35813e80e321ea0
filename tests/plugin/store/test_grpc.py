"""The same store over gRPC: a real channel to a server that the client's own engine answers."""

from collections.abc import AsyncIterator, Callable
from typing import Any

import grpc
import pytest
from qdrant_client import AsyncQdrantClient, models
from qdrant_client import grpc as messages
from qdrant_client.conversions.conversion import GrpcToRest, RestToGrpc
from qdrant_client.grpc import (
    collections_service_pb2_grpc,
    points_service_pb2_grpc,
    qdrant_pb2_grpc,
)

import stack
from nearhit.errors import StoreError
from nearhit.store import Entry
from nearhit.store.base import Vector

Make = Callable[..., Entry]
pytestmark = pytest.mark.filterwarnings("ignore:Payload indexes have no effect:UserWarning")


class Answering:
    """Answers the messages that nearhit sends, each from the engine's REST form."""

    def __init__(self) -> None:
        self.engine = AsyncQdrantClient(location=":memory:")

    async def HealthCheck(self, request: Any, context: Any) -> Any:  # noqa: N802
        return messages.HealthCheckReply(title="qdrant", version="1.20.0")

    async def CollectionExists(self, request: Any, context: Any) -> Any:  # noqa: N802
        exists = await self.engine.collection_exists(request.collection_name)
        return messages.CollectionExistsResponse(result=messages.CollectionExists(exists=exists))

    async def Create(self, request: Any, context: Any) -> Any:  # noqa: N802
        vectors = GrpcToRest.convert_vectors_config(request.vectors_config)
        await self.engine.create_collection(request.collection_name, vectors)
        return messages.CollectionOperationResponse(result=True)

    async def CreateFieldIndex(self, request: Any, context: Any) -> Any:  # noqa: N802
        return self._done()

    async def Upsert(self, request: Any, context: Any) -> Any:  # noqa: N802
        points = [GrpcToRest.convert_point_struct(point) for point in request.points]
        mode = request.HasField("update_mode")
        condition = request.HasField("update_filter")
        await self.engine.upsert(
            request.collection_name,
            points,
            update_mode=GrpcToRest.convert_update_mode(request.update_mode) if mode else None,
            update_filter=GrpcToRest.convert_filter(request.update_filter) if condition else None,
        )
        return self._done()

    async def Count(self, request: Any, context: Any) -> Any:  # noqa: N802
        count = (await self.engine.count(request.collection_name)).count
        return messages.CountResponse(result=messages.CountResult(count=count))

    async def Query(self, request: Any, context: Any) -> Any:  # noqa: N802
        found = await self.engine.query_points(
            request.collection_name,
            query=GrpcToRest.convert_query(request.query),
            query_filter=GrpcToRest.convert_filter(request.filter),
            limit=request.limit,
            with_vectors=True,
        )
        points = [RestToGrpc.convert_scored_point(point) for point in found.points]
        return messages.QueryResponse(result=points)

    async def SetPayload(self, request: Any, context: Any) -> Any:  # noqa: N802
        selector: Any = GrpcToRest.convert_points_selector(request.points_selector)
        payload = GrpcToRest.convert_payload(request.payload)
        await self.engine.set_payload(request.collection_name, payload, points=selector)
        return self._done()

    async def Delete(self, request: Any, context: Any) -> Any:  # noqa: N802
        selector = GrpcToRest.convert_points_selector(request.points)
        await self.engine.delete(request.collection_name, selector)
        return self._done()

    def _done(self) -> Any:
        result = models.UpdateResult(operation_id=0, status=models.UpdateStatus.COMPLETED)
        return messages.PointsOperationResponse(result=RestToGrpc.convert_update_result(result))


class Points(Answering, points_service_pb2_grpc.PointsServicer):
    """Reads points by id."""

    async def Get(self, request: Any, context: Any) -> Any:  # noqa: N802
        ids = [GrpcToRest.convert_point_id(point_id) for point_id in request.ids]
        records = await self.engine.retrieve(request.collection_name, ids, with_vectors=True)
        result = [RestToGrpc.convert_record(record) for record in records]
        return messages.GetResponse(result=result)


class Collections(Answering, collections_service_pb2_grpc.CollectionsServicer):
    """Describes collections."""

    async def Get(self, request: Any, context: Any) -> Any:  # noqa: N802
        info = await self.engine.get_collection(request.collection_name)
        result = RestToGrpc.convert_collection_info(info)
        return messages.GetCollectionInfoResponse(result=result)


class Root(Answering, qdrant_pb2_grpc.QdrantServicer):
    """Says its version."""


@pytest.fixture
async def port() -> AsyncIterator[int]:
    points, collections = Points(), Collections()
    collections.engine = points.engine
    serving, number = grpc.aio.server(), stack.free_port()
    generated: tuple[Any, ...] = (  # untyped, as protoc writes it
        points_service_pb2_grpc,
        collections_service_pb2_grpc,
        qdrant_pb2_grpc,
    )
    generated[0].add_PointsServicer_to_server(points, serving)
    generated[1].add_CollectionsServicer_to_server(collections, serving)
    generated[2].add_QdrantServicer_to_server(Root(), serving)
    serving.add_insecure_port(f"127.0.0.1:{number}")
    await serving.start()
    yield number
    await serving.stop(None)


async def test_store_over_grpc_keeps_finds_counts_flushes_and_deletes(
    port: int, open_server: Any, make_entry: Make, at: Callable[[float], Vector], now: int
) -> None:
    store = open_server("http://127.0.0.1:1", prefer_grpc=True, grpc_port=port)
    await store.start()
    near, exact = make_entry("near", degrees=10), make_entry("exact", degrees=None)
    await store.put(near)
    await store.put(exact)
    await store.touch(near.id, 3, now)
    (found,) = await store.search("tenant", "encoder", at(0), 5, now)
    assert (found.entry.text, found.entry.hits) == ("near", 3)
    kept = await store.get(exact.id, now)
    assert kept is not None
    assert kept.completion == exact.completion
    assert await store.count() == 2
    await store.delete([exact.id])
    assert await store.get(exact.id, now) is None
    assert await store.flush(near.created_at) == 0
    assert await store.get(near.id, now) is not None
    assert await store.flush(near.created_at + 1) == 0
    assert await store.get(near.id, now) is None
    assert await store.flush() == 1
    assert await store.get(near.id, now) is None


async def test_server_that_is_not_there_over_grpc_is_a_store_error_by_its_name(
    open_server: Any,
) -> None:
    with pytest.raises(StoreError, match=r"server is down: (UNAVAILABLE|no answer)"):
        await open_server(
            "http://127.0.0.1:1", prefer_grpc=True, grpc_port=stack.free_port()
        ).start()
