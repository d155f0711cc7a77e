"""What a client's channel puts up with."""

import asyncio
import contextlib
from collections import Counter
from collections.abc import AsyncIterator
from typing import Any, cast

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_health.v1.health import aio as health_aio
from reelway.v1 import catalog_pb2
from structlog.testing import capture_logs

from deploy.local.ports import free_port
from services.common.call import call
from services.common.catalog_client import CatalogClient
from services.common.channel import open_channel
from services.common.error_catalog import ErrorReason
from services.common.error_translator import to_status
from services.common.errors import ReelwayError

LATE_SECONDS = 0.6
"""Twice what used to be too late."""


async def _pass_on(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(OSError):
        while data := await reader.read(2**16):
            writer.write(data)
        writer.close()


@pytest.fixture
async def slow_to_greet() -> AsyncIterator[str]:
    """A server that takes connections at once and says nothing on them for a while, as a busy one does."""
    server = grpc.aio.server()
    health_pb2_grpc.add_HealthServicer_to_server(health_aio.HealthServicer(), server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    connections: set[asyncio.Task[None]] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await asyncio.sleep(LATE_SECONDS)
        to_reader, to_writer = await asyncio.open_connection("127.0.0.1", port)
        await asyncio.gather(_pass_on(reader, to_writer), _pass_on(to_reader, writer))

    def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.create_task(serve(reader, writer))
        connections.add(task)
        task.add_done_callback(connections.discard)

    front = await asyncio.start_server(accept, "127.0.0.1", 0)
    yield f"127.0.0.1:{front.sockets[0].getsockname()[1]}"
    front.close()
    await server.stop(0)
    for task in connections:
        task.cancel()
    await asyncio.gather(*connections, return_exceptions=True)


async def test_a_replica_that_is_slow_to_greet_is_waited_for(slow_to_greet: str) -> None:
    async with open_channel(slow_to_greet) as channel:
        stub: Any = health_pb2_grpc.HealthStub(channel)
        answer = await stub.Check(health_pb2.HealthCheckRequest(), timeout=10)
    assert answer.status == health_pb2.HealthCheckResponse.SERVING


async def test_no_proxy_stands_between_the_processes(slow_to_greet: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """One that the environment names is for the world outside; in a cluster it does not know our names."""
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
    monkeypatch.setenv("no_grpc_proxy", "elsewhere")  # gRPC takes it before no_proxy, which this machine may have set
    async with open_channel(slow_to_greet) as channel:
        stub: Any = health_pb2_grpc.HealthStub(channel)
        answer = await stub.Check(health_pb2.HealthCheckRequest(), timeout=10)
    assert answer.status == health_pb2.HealthCheckResponse.SERVING


async def test_what_is_safe_to_repeat_is_tried_again_and_nothing_else() -> None:
    asked: Counter[str] = Counter()

    class Anything(grpc.GenericRpcHandler):
        def service(self, call_details: Any) -> Any:
            async def lose(request: bytes, context: Any) -> None:
                asked[call_details.method] += 1
                await context.abort(grpc.StatusCode.UNAVAILABLE, "the replica went with its answer")

            return grpc.unary_unary_rpc_method_handler(lose)

    server = grpc.aio.server()
    health_pb2_grpc.add_HealthServicer_to_server(health_aio.HealthServicer(), server)
    server.add_generic_rpc_handlers((Anything(),))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    # The first answer may be lost behind what was done: a new version, an ended task, a video that is gone, or is new.
    once = ["CatalogService/UpdateVideo", "CatalogService/DeleteVideo", "LibraryService/Remove"]
    once += ["FfmpegService/CancelTask", "FfmpegService/RegisterTask", "UploadService/CreateUpload"]
    again = ["CatalogService/GetVideo", "CatalogService/CreateVideo", "LibraryService/Edit", "StreamService/ReadRange"]
    again += ["SigningService/NotifyArrivals", "TranscriptService/GetTranscript", "UploadService/Seal"]
    async with open_channel(f"127.0.0.1:{port}") as channel:
        for name in once + again:
            method: Any = channel.unary_unary(f"/reelway.v1.{name}")
            with pytest.raises(grpc.aio.AioRpcError):
                await method(b"", timeout=10)
    await server.stop(0)
    assert {name: asked[f"/reelway.v1.{name}"] for name in once + again} == {
        **dict.fromkeys(once, 1),
        **dict.fromkeys(again, 4),
    }


async def test_the_log_tells_which_peer_gave_no_answer_and_why() -> None:
    """The client is told neither, and the peer itself may know nothing of it."""
    address = f"127.0.0.1:{free_port()}"
    async with open_channel(address) as channel:
        with capture_logs() as lines, pytest.raises(ReelwayError) as failed:
            await CatalogClient(channel).get(number=1)
    assert failed.value.reason is ErrorReason.SERVICE_UNAVAILABLE
    (line,) = lines
    assert (line["event"], line["log_level"]) == ("no answer", "warning")
    assert (line["request"], line["code"]) == ("GetVideoRequest", "UNAVAILABLE")
    assert address in line["why"]


@pytest.mark.parametrize(
    ("reason", "is_told"),
    [
        (ErrorReason.VIDEO_NOT_FOUND, False),
        (ErrorReason.TOO_MANY_REQUESTS, False),
        (ErrorReason.TIMEOUT, True),
        (ErrorReason.INTERNAL, True),
    ],
)
async def test_a_refusal_is_an_answer(reason: ErrorReason, is_told: bool) -> None:
    """Whoever did not come to one is told of, and is waited for ten seconds."""

    async def refuse(request: Any, timeout: float, **_: Any) -> Any:
        assert timeout == 10
        status = to_status(ReelwayError(reason))
        raise grpc.aio.AioRpcError(
            status.code, grpc.aio.Metadata(), grpc.aio.Metadata(*status.trailing_metadata), status.details
        )

    with capture_logs() as lines, pytest.raises(ReelwayError) as refused:
        await call(cast(Any, refuse), catalog_pb2.GetVideoRequest())
    assert refused.value.reason is reason
    assert [line["event"] for line in lines] == ["no answer"] * is_told
