"""A stream of requests that the service ends early: the client is told the service's reason, whatever was under way."""

from collections.abc import AsyncIterator
from typing import Any

import grpc
import pytest

from gateway.client_stream import answer_to
from services.common.channel import TRANSPORT_OPTIONS
from services.common.error_catalog import ErrorReason
from services.common.error_translator import to_status
from services.common.errors import ReelwayError
from tests.support.waiting import until

MESSAGE = bytes(2**20)
TIMES = 100
"""Each is a race, which one of a few loses."""


@pytest.fixture
async def channel() -> AsyncIterator[grpc.aio.Channel]:
    """To a service that refuses whatever begins, or has it already."""

    async def refuse(messages: AsyncIterator[bytes], context: Any) -> bytes:
        await anext(messages)
        await context.abort_with_status(to_status(ReelwayError(ErrorReason.OFFSET_MISMATCH)))
        return b""

    async def accept(messages: AsyncIterator[bytes], context: Any) -> bytes:
        await anext(messages)
        return b"done"

    server = grpc.aio.server(options=TRANSPORT_OPTIONS)
    handlers: Any = {
        "Send": grpc.stream_unary_rpc_method_handler(refuse),
        "SendAgain": grpc.stream_unary_rpc_method_handler(accept),
    }
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("Test", handlers),))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}", options=TRANSPORT_OPTIONS) as opened:
        yield opened
    await server.stop(0)


async def test_a_refusal_is_not_lost_for_a_message_that_was_on_its_way(channel: grpc.aio.Channel) -> None:
    send: Any = channel.stream_unary("/Test/Send")

    async def endless() -> AsyncIterator[bytes]:
        while True:
            yield MESSAGE

    for _ in range(TIMES):
        call = send(timeout=20)
        with pytest.raises(ReelwayError) as refused:
            await answer_to(call, endless())
        assert refused.value.reason is ErrorReason.OFFSET_MISMATCH


async def test_what_is_done_already_is_read_to_its_end(channel: grpc.aio.Channel) -> None:
    """Most clients look for an answer behind all that they send, and are cut off where nobody reads it."""
    send: Any = channel.stream_unary("/Test/SendAgain")
    whole: list[bool] = []

    async def slow() -> AsyncIterator[bytes]:
        yield MESSAGE
        await until(call.done)
        for _ in range(3):
            yield MESSAGE
        whole.append(True)

    call = send(timeout=20)
    assert await answer_to(call, slow()) == b"done"
    assert whole


async def test_what_the_client_did_wrong_comes_out_and_ends_the_call(channel: grpc.aio.Channel) -> None:
    async def break_off() -> AsyncIterator[bytes]:
        yield MESSAGE
        raise ValueError

    send: Any = channel.stream_unary("/Test/Send")
    call = send(timeout=20)
    with pytest.raises(ValueError):
        await answer_to(call, break_off())
    assert call.cancelled()
