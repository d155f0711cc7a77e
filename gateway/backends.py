"""The services as the gateway calls them: one method an RPC, deadlines set, errors as ReelwayError."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any, TypeAlias

import grpc
from reelway.v1 import stream_pb2, upload_pb2

from gateway.client_stream import answer_to, gathered
from services.common.byte_messages import Buffer, decode_read_response, encode_upload_request
from services.common.caller import current_caller
from services.common.channel import CALL_SECONDS
from services.common.error_translator import from_rpc_error

WINDOW_SECONDS = 60.0
"""Deadline of one window; a viewer too slow for it has the rest fetched again from where it stopped."""

Window: TypeAlias = "grpc.aio.UnaryStreamCall[stream_pb2.ReadRequest, memoryview]"


class UploadBackend:
    """UploadService."""

    def __init__(self, channel: grpc.aio.Channel, max_seconds: float) -> None:
        self._max_seconds = max_seconds
        self._upload_video: Any = channel.stream_unary(
            "/reelway.v1.UploadService/UploadVideo",
            request_serializer=encode_upload_request,
            response_deserializer=upload_pb2.UploadVideoResponse.FromString,
        )

    async def upload(
        self, header: upload_pb2.UploadHeader, data: AsyncIterator[Buffer]
    ) -> upload_pb2.UploadVideoResponse:
        """Send one whole file, at the pace at which the service takes it.

        An exception that `data` raises cancels the upload, which then leaves nothing behind, and comes out.
        """
        call = self._upload_video(timeout=self._max_seconds, metadata=current_caller().metadata())
        answer: upload_pb2.UploadVideoResponse = await answer_to(call, _upload_messages(header, data))
        return answer


async def _upload_messages(
    header: upload_pb2.UploadHeader, data: AsyncIterator[Buffer]
) -> AsyncIterator[upload_pb2.UploadHeader | list[Buffer]]:
    yield header
    async for pieces, _ in gathered(data, header.declared_size_bytes):
        if pieces:
            yield pieces


class StreamBackend:
    """StreamService."""

    def __init__(self, channel: grpc.aio.Channel) -> None:
        prefix = "/reelway.v1.StreamService/"
        self._stat: Any = channel.unary_unary(
            prefix + "Stat",
            request_serializer=stream_pb2.StatRequest.SerializeToString,
            response_deserializer=stream_pb2.StatResponse.FromString,
        )
        self._read: Any = channel.unary_stream(
            prefix + "Read",
            request_serializer=stream_pb2.ReadRequest.SerializeToString,
            response_deserializer=decode_read_response,
        )
        self._read_range: Any = channel.unary_unary(
            prefix + "ReadRange",
            request_serializer=stream_pb2.ReadRangeRequest.SerializeToString,
            response_deserializer=decode_read_response,
        )
        self._presign: Any = channel.unary_unary(
            prefix + "PresignRead",
            request_serializer=stream_pb2.PresignReadRequest.SerializeToString,
            response_deserializer=stream_pb2.PresignReadResponse.FromString,
        )

    async def stat(self, request: stream_pb2.StatRequest) -> stream_pb2.StatResponse:
        """See StreamService.Stat."""
        response: stream_pb2.StatResponse = await self._unary(self._stat, request)
        return response

    async def read_range(self, video_id: str, etag: str, offset: int, length: int) -> memoryview:
        """See StreamService.ReadRange; at most 1 MiB."""
        request = stream_pb2.ReadRangeRequest(video_id=video_id, etag=etag, offset_bytes=offset, length_bytes=length)
        data: memoryview = await self._unary(self._read_range, request)
        return data

    def open_window(self, video_id: str, etag: str, offset: int, length: int) -> Window:
        """Begin StreamService.Read; its messages come from `read()` on the call, which raises AioRpcError."""
        request = stream_pb2.ReadRequest(video_id=video_id, etag=etag, offset_bytes=offset, length_bytes=length)
        call: Window = self._read(request, timeout=WINDOW_SECONDS, metadata=current_caller().metadata())
        return call

    async def presign(self, request: stream_pb2.PresignReadRequest) -> str:
        """See StreamService.PresignRead."""
        response: stream_pb2.PresignReadResponse = await self._unary(self._presign, request)
        return response.url

    @staticmethod
    async def _unary(method: Any, request: Any) -> Any:
        try:
            return await method(request, timeout=CALL_SECONDS, metadata=current_caller().metadata())
        except grpc.aio.AioRpcError as error:
            raise from_rpc_error(error) from None
