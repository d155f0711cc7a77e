"""The catalogue as the other services use it: a deadline, the caller and one error type on each call."""

from __future__ import annotations

import grpc
from reelway.v1 import catalog_pb2, catalog_pb2_grpc, media_pb2

from services.common.caller import current_caller, system_caller
from services.common.channel import CALL_SECONDS
from services.common.error_translator import from_rpc_error


class CatalogClient:
    """Calls for the caller of the request that the current task serves; raises ReelwayError."""

    def __init__(self, channel: grpc.aio.Channel) -> None:
        self._stub: catalog_pb2_grpc.CatalogServiceAsyncStub = catalog_pb2_grpc.CatalogServiceStub(channel)

    async def create(self, video: media_pb2.Video) -> media_pb2.Video:
        """Add a video; safe to repeat. See CatalogService.CreateVideo."""
        request = catalog_pb2.CreateVideoRequest(video=video)
        try:
            answer = await self._stub.CreateVideo(request, timeout=CALL_SECONDS, metadata=current_caller().metadata())
        except grpc.aio.AioRpcError as error:
            raise from_rpc_error(error) from None
        return answer.video

    async def get(self, *, video_id: str = "", number: int = 0) -> media_pb2.Video:
        """One video by either name. See CatalogService.GetVideo."""
        request = (
            catalog_pb2.GetVideoRequest(video_id=video_id) if video_id else catalog_pb2.GetVideoRequest(number=number)
        )
        try:
            answer = await self._stub.GetVideo(request, timeout=CALL_SECONDS, metadata=current_caller().metadata())
        except grpc.aio.AioRpcError as error:
            raise from_rpc_error(error) from None
        return answer.video

    async def look_up(self, video_id: str) -> media_pb2.Video:
        """One video whoever may see it, tombstones included. See CatalogService.LookUpVideo."""
        request = catalog_pb2.LookUpVideoRequest(video_id=video_id)
        try:
            answer = await self._stub.LookUpVideo(request, timeout=CALL_SECONDS, metadata=system_caller().metadata())
        except grpc.aio.AioRpcError as error:
            raise from_rpc_error(error) from None
        return answer.video

    async def delete(self, video_id: str) -> None:
        """Delete a video. See CatalogService.DeleteVideo."""
        request = catalog_pb2.DeleteVideoRequest(video_id=video_id)
        try:
            await self._stub.DeleteVideo(request, timeout=CALL_SECONDS, metadata=current_caller().metadata())
        except grpc.aio.AioRpcError as error:
            raise from_rpc_error(error) from None

    async def seal(self, request: catalog_pb2.SealVideoRequest) -> media_pb2.Video:
        """Make a growing video final; safe to repeat. See CatalogService.SealVideo."""
        try:
            answer = await self._stub.SealVideo(request, timeout=CALL_SECONDS, metadata=system_caller().metadata())
        except grpc.aio.AioRpcError as error:
            raise from_rpc_error(error) from None
        return answer.video

    async def attach_object(self, request: catalog_pb2.AttachObjectRequest) -> media_pb2.Video:
        """Name a final video's object; safe to repeat. See CatalogService.AttachObject."""
        try:
            answer = await self._stub.AttachObject(request, timeout=CALL_SECONDS, metadata=system_caller().metadata())
        except grpc.aio.AioRpcError as error:
            raise from_rpc_error(error) from None
        return answer.video
