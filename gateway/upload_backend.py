"""UploadService as the gateway calls it; its byte streams are encoded by hand. Errors as ReelwayError."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable
from typing import Any

import grpc
from reelway.v1 import media_pb2, upload_pb2, upload_pb2_grpc

from gateway.client_stream import answer_to, gathered
from services.common.byte_messages import (
    AppendMessage,
    Buffer,
    UploadMessage,
    encode_append_request,
    encode_upload_request,
)
from services.common.call import call
from services.common.caller import current_caller


class UploadBackend:
    """For the caller of the request that the current task serves.

    An exception that the `data` of a stream raises cancels its call, which then leaves nothing behind, and comes out.
    """

    def __init__(self, channel: grpc.aio.Channel, max_seconds: float) -> None:
        """`max_seconds` is the deadline of a stream."""
        self._max_seconds = max_seconds
        self._stub: upload_pb2_grpc.UploadServiceAsyncStub = upload_pb2_grpc.UploadServiceStub(channel)
        self._upload_video: Any = channel.stream_unary(
            "/reelway.v1.UploadService/UploadVideo",
            request_serializer=encode_upload_request,
            response_deserializer=upload_pb2.UploadVideoResponse.FromString,
        )
        self._append: Any = channel.stream_unary(
            "/reelway.v1.UploadService/Append",
            request_serializer=encode_append_request,
            response_deserializer=upload_pb2.AppendResponse.FromString,
        )

    async def upload(
        self, data: AsyncIterator[Buffer], file_name: str, most_bytes: int
    ) -> upload_pb2.UploadVideoResponse:
        """Send one whole file, at the pace at which the service takes it; it has at most `most_bytes`, 0: unknown."""
        header = upload_pb2.UploadHeader(file_name=file_name, max_size_bytes=most_bytes, announces_finish=True)
        stream = self._upload_video(timeout=self._max_seconds, metadata=current_caller().metadata())
        answer: upload_pb2.UploadVideoResponse = await answer_to(stream, _upload_messages(header, data))
        return answer

    async def create(self, title: str, description: str) -> media_pb2.Video:
        """See UploadService.CreateUpload."""
        request = upload_pb2.CreateUploadRequest(title=title, description=description)
        return (await call(self._stub.CreateUpload, request)).video

    async def append(self, header: upload_pb2.AppendHeader, data: AsyncIterator[Buffer]) -> upload_pb2.AppendResponse:
        """Send one chunk, at the pace at which the service takes it."""
        stream = self._append(timeout=self._max_seconds, metadata=current_caller().metadata())
        answer: upload_pb2.AppendResponse = await answer_to(stream, _append_messages(header, data))
        return answer

    async def seal(self, video_id: str, containers: Iterable[media_pb2.Container.ValueType]) -> media_pb2.Video:
        """See UploadService.Seal."""
        request = upload_pb2.SealRequest(video_id=video_id, containers=containers)
        return (await call(self._stub.Seal, request)).video


async def _upload_messages(
    header: upload_pb2.UploadHeader, data: AsyncIterator[Buffer]
) -> AsyncIterator[UploadMessage]:
    yield UploadMessage(header=header)
    async for pieces, last in gathered(data, 0):
        yield UploadMessage(pieces, finish=last)


async def _append_messages(
    header: upload_pb2.AppendHeader, data: AsyncIterator[Buffer]
) -> AsyncIterator[AppendMessage]:
    first: upload_pb2.AppendHeader | None = header
    async for pieces, last in gathered(data, header.declared_size_bytes):
        yield AppendMessage(pieces, first, finish=last)
        first = None
