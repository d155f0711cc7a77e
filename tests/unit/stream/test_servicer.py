"""What gRPC keeps of an answer counts until the reader has taken it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any, cast
from unittest.mock import Mock

import grpc
import pytest
from prometheus_client import REGISTRY
from reelway.v1 import media_pb2, stream_pb2, stream_pb2_grpc

from services.common.call import call
from services.common.errors import ReelwayError
from services.common.grpc_edge import Edge
from services.stream.playback import LONGEST_MESSAGE, Playback
from services.stream.servicer import StreamServicer
from tests.support.raw_calls import raw_calls
from tests.support.waiting import until

RANGE = stream_pb2.ReadRangeRequest(video_id="v1", length_bytes=LONGEST_MESSAGE)


class Video:
    """Stands for the catalogue's answers, for the versions of the one video, and for its bytes."""

    async def get(self, video_id: str) -> media_pb2.Video:
        return media_pb2.Video(video_id=video_id)

    async def find(self, *args: Any) -> Mock:
        return Mock(size=2**40)

    async def read(self, version: Any, offset: int, length: int) -> AsyncIterator[bytes]:
        yield bytes(length)


@pytest.fixture
async def address() -> AsyncIterator[str]:
    """Of a server with room for two short ranges of the longest."""
    server, video = grpc.aio.server(interceptors=[Edge(30, asyncio.Event())]), cast(Any, Video())
    StreamServicer(Playback(video, video, video, 4 * LONGEST_MESSAGE)).register(server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    yield f"127.0.0.1:{port}"
    await server.stop(None)


def _held() -> float:
    return REGISTRY.get_sample_value("reelway_stream_buffer_bytes") or 0


async def test_a_short_range_that_nobody_takes_keeps_its_room(address: str) -> None:
    """300 of them, of one client that was frozen, took a process to 759 MiB."""
    before = _held()
    async with grpc.aio.insecure_channel(address) as channel:
        stub: stream_pb2_grpc.StreamServiceAsyncStub = stream_pb2_grpc.StreamServiceStub(channel)
        async with raw_calls(address) as others:
            for _ in range(2):
                others.begin("/reelway.v1.StreamService/ReadRange", RANGE.SerializeToString(), ends=True)
            await until(lambda: _held() - before == 4 * LONGEST_MESSAGE)
            for _ in range(2):
                with pytest.raises(ReelwayError, match="Too many videos are being read"):
                    await call(stub.ReadRange, RANGE)
        await until(lambda: _held() == before)
        answers = await asyncio.gather(*(call(stub.ReadRange, RANGE) for _ in range(2)))
    assert [len(answer.data) for answer in answers] == [LONGEST_MESSAGE] * 2
    await until(lambda: _held() == before)
