"""LibraryService: converts, and has thumbnails signed; nothing else."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from reelway.v1 import library_pb2, library_pb2_grpc, media_pb2

from services.catalog.library import Library
from services.catalog.processing import Processing
from services.catalog.thumbnails import Thumbnails
from services.common.caller import current_caller, require_system
from services.common.clock import Clock
from services.common.s3_objects import S3Objects


class LibraryServicer(library_pb2_grpc.LibraryServiceServicer):
    """Judges each call for the user of its metadata."""

    def __init__(self, library: Library, processing: Processing, objects: S3Objects, clock: Clock) -> None:
        self._library, self._processing, self._thumbnails = library, processing, Thumbnails(objects, clock)

    async def _shown(self, video: media_pb2.Video) -> library_pb2.LibraryVideo:
        url = await self._thumbnails.url(video.thumbnail_key)
        return library_pb2.LibraryVideo(video=video, thumbnail_url=url)

    async def _all_shown(self, videos: Iterable[media_pb2.Video]) -> list[library_pb2.LibraryVideo]:
        return [await self._shown(video) for video in videos]

    async def Explore(self, request: library_pb2.ExploreRequest, context: Any) -> library_pb2.ExploreResponse:
        page = await self._library.explore(
            current_caller().user, request.page_size, request.page_token, request.include_own
        )
        return library_pb2.ExploreResponse(videos=await self._all_shown(page.videos), next_page_token=page.token)

    async def ListOwn(self, request: library_pb2.ListOwnRequest, context: Any) -> library_pb2.ListOwnResponse:
        page, unprocessed = await self._library.own(current_caller().user, request.page_size, request.page_token)
        return library_pb2.ListOwnResponse(
            videos=await self._all_shown(page.videos), unprocessed=unprocessed, next_page_token=page.token
        )

    async def ListUser(self, request: library_pb2.ListUserRequest, context: Any) -> library_pb2.ListUserResponse:
        page = await self._library.of_user(
            current_caller().user, request.user_id, request.page_size, request.page_token
        )
        return library_pb2.ListUserResponse(videos=await self._all_shown(page.videos), next_page_token=page.token)

    async def Watch(self, request: library_pb2.WatchRequest, context: Any) -> library_pb2.WatchResponse:
        video = await self._library.watch(current_caller().user, request.user_id, request.video_id)
        return library_pb2.WatchResponse(video=await self._shown(video))

    async def Edit(self, request: library_pb2.EditRequest, context: Any) -> library_pb2.EditResponse:
        return library_pb2.EditResponse(video=await self._library.edit(current_caller().user, request))

    async def Remove(self, request: library_pb2.RemoveRequest, context: Any) -> library_pb2.RemoveResponse:
        await self._library.remove(current_caller().user, request.video_id)
        return library_pb2.RemoveResponse()

    async def NoteArrival(
        self, request: library_pb2.NoteArrivalRequest, context: Any
    ) -> library_pb2.NoteArrivalResponse:
        require_system()
        video = await self._processing.note_arrival(request.video_id, request.size_bytes)
        return library_pb2.NoteArrivalResponse(state=video.state, owner=video.owner)

    async def FinishProcessing(
        self, request: library_pb2.FinishProcessingRequest, context: Any
    ) -> library_pb2.FinishProcessingResponse:
        require_system()
        return library_pb2.FinishProcessingResponse(video=await self._processing.finish(request))
