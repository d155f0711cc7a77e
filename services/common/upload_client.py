"""The journals as the other services use them."""

from __future__ import annotations

import grpc
from reelway.v1 import upload_pb2, upload_pb2_grpc

from services.common.call import call
from services.common.caller import system_caller
from services.common.extents import Extent


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
        return await call(self._stub.LocateExtents, request, system_caller())


def extents_of(located: upload_pb2.LocateExtentsResponse) -> list[Extent]:
    """What holds the range, or the beginning of it."""
    return [
        Extent(extent.offset_bytes, extent.length_bytes, extent.key, extent.begins_clip) for extent in located.extents
    ]
