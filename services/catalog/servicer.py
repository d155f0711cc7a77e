"""CatalogService: converts, nothing else."""

from __future__ import annotations

from typing import Any

from reelway.v1 import catalog_pb2, catalog_pb2_grpc

from services.catalog.catalog import Catalog
from services.catalog.journal_changes import JournalChanges
from services.common.caller import current_caller, require_system


class CatalogServicer(catalog_pb2_grpc.CatalogServiceServicer):
    """Judges each call for the user of its metadata."""

    def __init__(self, catalog: Catalog, journals: JournalChanges) -> None:
        self._catalog, self._journals = catalog, journals

    async def CreateVideo(
        self, request: catalog_pb2.CreateVideoRequest, context: Any
    ) -> catalog_pb2.CreateVideoResponse:
        video = await self._catalog.create(request.video, current_caller().user)
        return catalog_pb2.CreateVideoResponse(video=video)

    async def GetVideo(self, request: catalog_pb2.GetVideoRequest, context: Any) -> catalog_pb2.GetVideoResponse:
        user = current_caller().user
        video = await self._catalog.get(user, video_id=request.video_id, number=request.number)
        return catalog_pb2.GetVideoResponse(video=video)

    async def ListVideos(self, request: catalog_pb2.ListVideosRequest, context: Any) -> catalog_pb2.ListVideosResponse:
        videos, token = await self._catalog.page(
            current_caller().user, request.page_size, request.page_token, request.skip
        )
        return catalog_pb2.ListVideosResponse(videos=videos, next_page_token=token)

    async def UpdateVideo(
        self, request: catalog_pb2.UpdateVideoRequest, context: Any
    ) -> catalog_pb2.UpdateVideoResponse:
        return catalog_pb2.UpdateVideoResponse(video=await self._catalog.update(current_caller().user, request))

    async def DeleteVideo(
        self, request: catalog_pb2.DeleteVideoRequest, context: Any
    ) -> catalog_pb2.DeleteVideoResponse:
        await self._catalog.delete(current_caller().user, request.video_id)
        return catalog_pb2.DeleteVideoResponse()

    async def SealVideo(self, request: catalog_pb2.SealVideoRequest, context: Any) -> catalog_pb2.SealVideoResponse:
        require_system()
        return catalog_pb2.SealVideoResponse(video=await self._journals.seal(request))

    async def AttachObject(
        self, request: catalog_pb2.AttachObjectRequest, context: Any
    ) -> catalog_pb2.AttachObjectResponse:
        require_system()
        return catalog_pb2.AttachObjectResponse(video=await self._journals.attach_object(request))

    async def LookUpVideo(
        self, request: catalog_pb2.LookUpVideoRequest, context: Any
    ) -> catalog_pb2.LookUpVideoResponse:
        require_system()
        return catalog_pb2.LookUpVideoResponse(video=await self._catalog.look_up(request.video_id))
