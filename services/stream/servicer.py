"""StreamService: converts, nothing else."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from typing import Any

import grpc
from reelway.v1 import stream_pb2

from services.common.method_handlers import generic_handler
from services.stream.playback import Playback

SERVICE = stream_pb2.DESCRIPTOR.services_by_name["StreamService"]


class StreamServicer:
    """Its byte messages are encoded by hand, so it registers itself rather than by the generated function."""

    def __init__(self, playback: Playback) -> None:
        self._playback = playback

    def register(self, server: grpc.aio.Server) -> None:
        """Add StreamService to a server."""
        encoders = {"Read": None, "ReadRange": None}
        server.add_generic_rpc_handlers((generic_handler(SERVICE, self, encoders=encoders),))

    async def Stat(self, request: stream_pb2.StatRequest, context: Any) -> stream_pb2.StatResponse:
        version = await self._playback.stat(video_id=request.video_id, number=request.number)
        return stream_pb2.StatResponse(
            video_id=version.video_id,
            size_bytes=version.size,
            etag=version.etag,
            modify_time=version.modify_time,
            container=version.container,
            sealed=version.sealed,
            number=version.number,
        )

    def Read(self, request: stream_pb2.ReadRequest, context: Any) -> AsyncIterator[bytes]:
        return self._playback.read(request.video_id, request.offset_bytes, request.length_bytes, request.etag)

    async def ReadRange(self, request: stream_pb2.ReadRangeRequest, context: Any) -> bytes:
        held = contextlib.ExitStack()
        # Once the answer is sent: of a reader who does not take it, gRPC keeps it.
        context.add_done_callback(lambda _: held.close())
        return await self._playback.read_range(
            request.video_id, request.offset_bytes, request.length_bytes, request.etag, held
        )

    async def PresignRead(self, request: stream_pb2.PresignReadRequest, context: Any) -> stream_pb2.PresignReadResponse:
        url = await self._playback.presign(
            request.video_id, request.expires_seconds, request.content_type, request.content_disposition
        )
        return stream_pb2.PresignReadResponse(url=url)
