"""What the edge of a service keeps of its calls."""

import asyncio
import gc
import weakref
from types import SimpleNamespace
from typing import Any

import grpc
import pytest
from prometheus_client import REGISTRY
from structlog.testing import capture_logs

from services.common.error_catalog import ErrorReason
from services.common.errors import ReelwayError
from services.common.grpc_edge import Edge
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


async def test_who_leaves_before_its_message_comes_counts_as_one_that_leaves() -> None:
    """A message that was left out looks the same to who awaits it."""

    def counted(name: str, **labels: str) -> float:
        return REGISTRY.get_sample_value(f"reelway_rpc_{name}", {"method": "/test.v1.Left/Echo"} | labels) or 0

    server = grpc.aio.server(interceptors=[Edge(30, asyncio.Event())])
    methods: dict[str, Any] = {"Echo": grpc.unary_unary_rpc_method_handler(_echo)}
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("test.v1.Left", methods),))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    async with raw_calls(f"127.0.0.1:{port}") as calls:
        for is_left_out in (False, True):
            calls.begin("/test.v1.Left/Echo", ends=is_left_out)
        await calls.ended()
        await until(lambda: counted("in_flight") == 1)
    await until(lambda: counted("in_flight") == 0)
    assert (counted("handled_total", code="INVALID_ARGUMENT"), counted("handled_total", code="CANCELLED")) == (1, 1)
    await server.stop(None)


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
