"""What the edge of a service keeps of its calls."""

import asyncio
import gc
import weakref
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from types import SimpleNamespace
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2_grpc
from grpc_health.v1.health import aio as health_aio
from prometheus_client import REGISTRY
from structlog.testing import capture_logs

from services.common import grpc_edge, monitor_streams, server
from services.common.error_catalog import ErrorReason
from services.common.errors import ReelwayError
from services.common.grpc_edge import Edge
from services.common.settings import ServiceSettings
from tests.support.raw_calls import raw_calls
from tests.support.waiting import until


class Context:
    """Of a call without a deadline or metadata; what it is refused with."""

    refused: Any = None

    def invocation_metadata(self) -> tuple[()]:
        return ()

    def time_remaining(self) -> None:
        return None

    def code(self) -> grpc.StatusCode:
        code: grpc.StatusCode = self.refused.code
        return code

    async def read(self) -> bytes:
        return b"request"

    async def abort_with_status(self, status: Any) -> None:
        self.refused = status
        raise grpc.aio.AbortError


async def _call(edge: Edge, behaviour: Any) -> asyncio.Task[bytes]:
    """A call of a method that is `behaviour`, in a task of its own, as gRPC has it."""

    async def handler(_: Any) -> Any:
        return grpc.unary_unary_rpc_method_handler(behaviour)

    wrapped = await edge.intercept_service(handler, SimpleNamespace(method=f"/test/{behaviour.__name__}"))
    return asyncio.create_task(wrapped.stream_unary(None, Context()))


async def _echo(request: bytes, context: Any) -> bytes:
    return request


async def _hang(request: bytes, context: Any) -> bytes:
    return await asyncio.Future()


async def _follow(request: bytes, context: Any) -> AsyncIterator[bytes]:
    yield request
    await asyncio.Future()


async def _defect(request: bytes, context: Any) -> bytes:
    raise ReelwayError(ErrorReason.INTERNAL, "what cannot be")


async def test_what_cannot_be_is_told_in_the_log() -> None:
    with capture_logs() as lines, pytest.raises(grpc.aio.AbortError):
        await (await _call(Edge(30, asyncio.Event()), _defect))
    assert [(line["event"], line["detail"]) for line in lines if line["log_level"] == "error"] == [
        ("internal error", "what cannot be")
    ]


async def test_calls_under_way_are_counted() -> None:
    def under_way() -> float | None:
        return REGISTRY.get_sample_value("reelway_rpc_in_flight", {"method": "/test/_hang"})

    call = await _call(Edge(30, asyncio.Event()), _hang)
    await asyncio.sleep(0)
    assert under_way() == 1
    call.cancel()
    await asyncio.wait([call])
    assert under_way() == 0


@asynccontextmanager
async def _served(edge: Edge) -> AsyncIterator[str]:
    """The address of a server whose /test.v1.Edge/Echo and Follow, and health, are behind this edge."""
    grpc_server = server._server(ServiceSettings(), edge, 60)
    methods: dict[str, Any] = {
        "Echo": grpc.unary_unary_rpc_method_handler(_echo, response_serializer=bytes),
        "Follow": grpc.unary_stream_rpc_method_handler(_follow),
    }
    grpc_server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("test.v1.Edge", methods),))
    health_pb2_grpc.add_HealthServicer_to_server(health_aio.HealthServicer(), grpc_server)
    port = grpc_server.add_insecure_port("127.0.0.1:0")
    await grpc_server.start()
    try:
        yield f"127.0.0.1:{port}"
    finally:
        await grpc_server.stop(None)


def _counted(name: str, **labels: str) -> float:
    return REGISTRY.get_sample_value(f"reelway_rpc_{name}", {"method": "/test.v1.Edge/Echo"} | labels) or 0


async def test_who_leaves_before_its_message_comes_counts_as_one_that_leaves() -> None:
    """A message that was left out looks the same to who awaits it."""
    async with _served(Edge(30, asyncio.Event())) as address:
        async with raw_calls(address) as calls:
            for is_left_out in (False, True):
                calls.begin("/test.v1.Edge/Echo", ends=is_left_out)
            await calls.ended()
            await until(lambda: _counted("in_flight") == 1)
        await until(lambda: _counted("in_flight") == 0)
    assert (_counted("handled_total", code="INVALID_ARGUMENT"), _counted("handled_total", code="CANCELLED")) == (1, 1)


@pytest.mark.parametrize(
    ("bound", "most", "code"), [("MOST_CALLS", 1, "RESOURCE_EXHAUSTED"), ("ANSWER_BYTES", 20, "UNAVAILABLE")]
)
async def test_a_call_too_many_is_refused(monkeypatch: pytest.MonkeyPatch, bound: str, most: int, code: str) -> None:
    """One whose answer nobody takes is under way, too, and its bytes are held: the next one was done in vain."""
    monkeypatch.setattr(grpc_edge, bound, most)
    refused = _counted("handled_total", code=code)
    async with _served(Edge(30, asyncio.Event())) as address:
        async with raw_calls(address) as calls:
            for _ in range(2):
                calls.begin("/test.v1.Edge/Echo", b"message", ends=True)
            async with asyncio.timeout(10):
                await calls.ended()
            await until(lambda: _counted("handled_total", code=code) == refused + 1)
        async with grpc.aio.insecure_channel(address) as channel:
            echo: Any = channel.unary_unary("/test.v1.Edge/Echo")

            async def is_let_in() -> bool:
                try:
                    return bool(await echo(b"message") == b"message")
                except grpc.aio.AioRpcError:
                    return False

            await until(is_let_in)


async def test_a_small_answer_finds_room_beside_long_ones_that_nobody_takes(monkeypatch: pytest.MonkeyPatch) -> None:
    """It says what was done."""
    monkeypatch.setattr(grpc_edge, "ANSWER_BYTES", 100)
    edge = Edge(30, asyncio.Event())
    edge.hold(bytes(50))
    for _ in range(2):
        with pytest.raises(ReelwayError):
            edge.hold(bytes(50))
    assert edge.hold(b"small")


async def test_calls_that_have_no_end_leave_room_for_others(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever follows tasks may follow thousands: all who ask for anything else would be refused as long as that."""
    monkeypatch.setattr(grpc_edge, "MOST_CALLS", 4)
    async with _served(Edge(30, asyncio.Event())) as address, grpc.aio.insecure_channel(address) as channel:
        echo: Any = channel.unary_unary("/test.v1.Edge/Echo")
        follow: Any = channel.unary_stream("/test.v1.Edge/Follow")
        following = [follow(b"task") for _ in range(3)]
        assert [await call.read() for call in following] == [b"task"] * 3
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await asyncio.wait_for(follow(b"task").read(), 10)
        assert refused.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        assert await echo(b"message") == b"message"


async def test_a_health_watch_too_many_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(monitor_streams, "MOST", 1)
    async with _served(Edge(30, asyncio.Event())) as address, raw_calls(address) as calls, asyncio.timeout(10):
        calls.begin("/grpc.health.v1.Health/Watch", b"", ends=True)
        calls.begin("/grpc.health.v1.Health/Watch", b"", ends=True)
        await calls.ended()


async def test_a_connection_too_many_is_cut_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "_MOST_CONNECTIONS", 1)
    async with _served(Edge(30, asyncio.Event())) as address, asyncio.timeout(10):
        host, _, port = address.rpartition(":")
        first, second = [await asyncio.open_connection(host, int(port)) for _ in range(2)]
        assert await second[0].read() == b""
        assert await first[0].readexactly(9)
        for _, writer in (first, second):
            writer.close()


async def test_a_call_that_has_ended_is_held_by_nothing() -> None:
    edge = Edge(30, asyncio.Event())
    call = await _call(edge, _echo)
    assert await call == b"request"
    ended = weakref.ref(call)
    del call
    await asyncio.sleep(0)
    gc.collect()
    assert ended() is None


async def test_a_call_that_does_not_end_is_waited_for_no_longer_than_it_is_told() -> None:
    edge = Edge(30, asyncio.Event())
    call = await _call(edge, _hang)
    await asyncio.sleep(0)
    async with asyncio.timeout(10):
        await edge.wait(0.01)
    assert not call.done()
    call.cancel()
    await asyncio.wait([call])
