"""UploadService's journal as the gateway calls it: deadlines set, errors as ReelwayError."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable
from typing import Any

import grpc
from reelway.v1 import media_pb2, upload_pb2, upload_pb2_grpc

from gateway.backends import LONGEST_GATHERING
from gateway.client_stream import answer_to
from services.common.byte_messages import AppendMessage, Buffer, encode_append_request
from services.common.caller import current_caller
from services.common.channel import CALL_SECONDS
from services.common.error_translator import from_rpc_error

_MESSAGE = 2**20
# A chunk up to this is one message; a larger one is judged, and its request to the store begun, with this much of it.
_FIRST_MESSAGE = 2**17


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
        answer: upload_pb2.AppendResponse = await answer_to(call, _send(call, header, data))
        return answer


async def _send(call: Any, header: upload_pb2.AppendHeader, data: AsyncIterator[Buffer]) -> None:
    """One message is on its way while the next is gathered."""
    first: upload_pb2.AppendHeader | None = header
    pieces: list[Buffer] = []
    size, sent, enough, now = 0, 0, _FIRST_MESSAGE, asyncio.get_running_loop().time
    due = now() + LONGEST_GATHERING
    under_way: asyncio.Future[None] | None = None
    try:
        async for piece in data:
            pieces.append(piece)
            size += len(piece)
            # What ends a chunk of known size goes with the last message.
            if (size >= enough or now() >= due) and sent + size != header.declared_size_bytes:
                if under_way is not None:
                    await under_way
                under_way = asyncio.ensure_future(call.write(AppendMessage(pieces, first)))
                first, pieces, sent, size, enough = None, [], sent + size, 0, _MESSAGE
                due = now() + LONGEST_GATHERING
        if under_way is not None:
            await under_way
        # A small chunk is one message in all.
        await call.write(AppendMessage(pieces, first, finish=True))
        await call.done_writing()
    except asyncio.InvalidStateError:
        pass  # the service has answered already; awaiting the call tells what
    finally:
        if under_way is not None:
            under_way.cancel()
            await asyncio.gather(under_way, return_exceptions=True)
