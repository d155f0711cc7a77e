"""UploadService's journal as the gateway calls it: deadlines set, errors as ReelwayError."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable
from typing import Any

import grpc
from reelway.v1 import media_pb2, upload_pb2, upload_pb2_grpc

from gateway.client_stream import answer_to, gathered
from services.common.byte_messages import AppendMessage, Buffer, encode_append_request
from services.common.caller import current_caller
from services.common.channel import CALL_SECONDS
from services.common.error_translator import from_rpc_error


class AppendBackend:
    """For the caller of the request that the current task serves."""

    def __init__(self, channel: grpc.aio.Channel, max_seconds: float) -> None:
        self._max_seconds = max_seconds
        self._stub: upload_pb2_grpc.UploadServiceAsyncStub = upload_pb2_grpc.UploadServiceStub(channel)
        self._append: Any = channel.stream_unary(
            "/reelway.v1.UploadService/Append",
            request_serializer=encode_append_request,
            response_deserializer=upload_pb2.AppendResponse.FromString,
        )

    async def create(self, title: str, description: str) -> media_pb2.Video:
        """See UploadService.CreateUpload."""
        request = upload_pb2.CreateUploadRequest(title=title, description=description)
        try:
            answer = await self._stub.CreateUpload(request, timeout=CALL_SECONDS, metadata=current_caller().metadata())
        except grpc.aio.AioRpcError as error:
            raise from_rpc_error(error) from None
        return answer.video

    async def seal(self, video_id: str, containers: Iterable[media_pb2.Container.ValueType]) -> media_pb2.Video:
        """See UploadService.Seal."""
        request = upload_pb2.SealRequest(video_id=video_id, containers=containers)
        try:
            answer = await self._stub.Seal(request, timeout=CALL_SECONDS, metadata=current_caller().metadata())
        except grpc.aio.AioRpcError as error:
            raise from_rpc_error(error) from None
        return answer.video

    async def append(self, header: upload_pb2.AppendHeader, data: AsyncIterator[Buffer]) -> upload_pb2.AppendResponse:
        """Send one chunk, at the pace at which the service takes it.

        An exception that `data` raises cancels the call, which then appends nothing, and comes out.
        """
        call = self._append(timeout=self._max_seconds, metadata=current_caller().metadata())
        answer: upload_pb2.AppendResponse = await answer_to(call, _messages(header, data))
        return answer


async def _messages(header: upload_pb2.AppendHeader, data: AsyncIterator[Buffer]) -> AsyncIterator[AppendMessage]:
    first: upload_pb2.AppendHeader | None = header
    async for pieces, last in gathered(data, header.declared_size_bytes):
        yield AppendMessage(pieces, first, finish=last)
        first = None
