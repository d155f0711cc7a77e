"""The journals as the other services use them: a deadline and one error type on each call."""

from __future__ import annotations

import grpc
from reelway.v1 import upload_pb2, upload_pb2_grpc

from services.common.caller import system_caller
from services.common.channel import CALL_SECONDS
from services.common.error_translator import from_rpc_error


class UploadClient:
    """Calls in the name of the system, which has judged who may read; raises ReelwayError."""

    def __init__(self, channel: grpc.aio.Channel) -> None:
        self._stub: upload_pb2_grpc.UploadServiceAsyncStub = upload_pb2_grpc.UploadServiceStub(channel)

    async def locate(
        self, video_id: str, offset: int = 0, length: int = 0, etag: str = ""
    ) -> upload_pb2.LocateExtentsResponse:
        """Where bytes of an upload are. See UploadService.LocateExtents."""
        request = upload_pb2.LocateExtentsRequest(
            video_id=video_id, offset_bytes=offset, length_bytes=length, etag=etag
        )
        try:
            return await self._stub.LocateExtents(request, timeout=CALL_SECONDS, metadata=system_caller().metadata())
        except grpc.aio.AioRpcError as error:
            raise from_rpc_error(error) from None
