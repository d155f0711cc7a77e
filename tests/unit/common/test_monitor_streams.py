"""Streams of health and reflection: how they end."""

import asyncio
import gc
from typing import Any
from unittest.mock import AsyncMock

import grpc

from services.common.monitor_streams import ended_by


async def test_a_stream_that_breaks_as_its_client_goes_leaves_no_error_line() -> None:
    begun, lines, loop = asyncio.Event(), list[str](), asyncio.get_running_loop()
    # What other tests left is not told of here.
    gc.collect()
    loop.set_exception_handler(lambda _, told: lines.append(str(told["message"])))

    async def watch(request: Any, context: Any) -> None:
        begun.set()
        try:
            await asyncio.Event().wait()
        finally:
            raise ConnectionError("the message could not be sent")

    handler = ended_by(asyncio.Event(), grpc.unary_stream_rpc_method_handler(watch), set())
    call = asyncio.create_task(handler.stream_stream(None, AsyncMock()))
    await begun.wait()
    call.cancel()
    await asyncio.wait([call])
    # It is told when the task is collected, which the call holds.
    del call
    gc.collect()
    loop.set_exception_handler(None)
    assert lines == []
