"""CatalogService as the gateway calls it: deadlines set, errors as ReelwayError."""

from __future__ import annotations

import grpc
from reelway.v1 import catalog_pb2, catalog_pb2_grpc, media_pb2

from services.common.caller import current_caller
from services.common.channel import CALL_SECONDS
from services.common.error_translator import from_rpc_error


class CatalogBackend:
    """For the caller of the request that the current task serves."""

    def __init__(self, channel: grpc.aio.Channel) -> None:
        self._stub: catalog_pb2_grpc.CatalogServiceAsyncStub = catalog_pb2_grpc.CatalogServiceStub(channel)

    async def get_by_number(self, number: int) -> media_pb2.Video:
        """See CatalogService.GetVideo."""
        request = catalog_pb2.GetVideoRequest(number=number)
        try:
            answer = await self._stub.GetVideo(request, timeout=CALL_SECONDS, metadata=current_caller().metadata())
        except grpc.aio.AioRpcError as error:
            raise from_rpc_error(error) from None
        return answer.video

    async def page(self, size: int, token: str) -> catalog_pb2.ListVideosResponse:
        """See CatalogService.ListVideos."""
        request = catalog_pb2.ListVideosRequest(page_size=size, page_token=token)
        try:
            return await self._stub.ListVideos(request, timeout=CALL_SECONDS, metadata=current_caller().metadata())
        except grpc.aio.AioRpcError as error:
            raise from_rpc_error(error) from None
