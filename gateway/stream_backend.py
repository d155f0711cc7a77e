"""StreamService as the gateway calls it; its messages of bytes are decoded by hand. Errors as ReelwayError."""

from __future__ import annotations

from typing import Any, TypeAlias

import grpc
from reelway.v1 import stream_pb2, stream_pb2_grpc

from services.common.byte_messages import decode_read_response
from services.common.call import call
from services.common.caller import current_caller
from services.common.error_catalog import ErrorReason
from services.common.errors import ReelwayError
from services.common.request_limits import STAT_SECONDS

WINDOW_SECONDS = 60.0
"""Deadline of one window; a viewer too slow for it has the rest fetched again from where it stopped."""

Window: TypeAlias = "grpc.aio.UnaryStreamCall[stream_pb2.ReadRequest, memoryview]"


class StreamBackend:
    """For the caller of the request that the current task serves."""

    def __init__(self, channel: grpc.aio.Channel) -> None:
        self._stub: stream_pb2_grpc.StreamServiceAsyncStub = stream_pb2_grpc.StreamServiceStub(channel)
        self._read: Any = channel.unary_stream(
            "/reelway.v1.StreamService/Read",
            request_serializer=stream_pb2.ReadRequest.SerializeToString,
            response_deserializer=decode_read_response,
        )
        self._read_range: Any = channel.unary_unary(
            "/reelway.v1.StreamService/ReadRange",
            request_serializer=stream_pb2.ReadRangeRequest.SerializeToString,
            response_deserializer=decode_read_response,
        )

    async def stat(self, request: stream_pb2.StatRequest) -> stream_pb2.StatResponse:
        """See StreamService.Stat. A replica that hangs costs seconds: the next one is asked then."""
        try:
            return await call(self._stub.Stat, request, seconds=STAT_SECONDS)
        except ReelwayError as error:
            if error.reason is not ErrorReason.TIMEOUT:
                raise
        return await call(self._stub.Stat, request)

    async def read_range(self, video_id: str, etag: str, offset: int, length: int) -> memoryview:
        """See StreamService.ReadRange; at most 1 MiB."""
        request = stream_pb2.ReadRangeRequest(video_id=video_id, etag=etag, offset_bytes=offset, length_bytes=length)
        data: memoryview = await call(self._read_range, request)
        return data

    def open_window(self, video_id: str, etag: str, offset: int, length: int) -> Window:
        """Begin StreamService.Read; its messages come from `read()` on the call, which raises AioRpcError."""
        request = stream_pb2.ReadRequest(video_id=video_id, etag=etag, offset_bytes=offset, length_bytes=length)
        window: Window = self._read(request, timeout=WINDOW_SECONDS, metadata=current_caller().metadata())
        return window

    async def presign(self, request: stream_pb2.PresignReadRequest) -> str:
        """See StreamService.PresignRead."""
        return (await call(self._stub.PresignRead, request)).url
