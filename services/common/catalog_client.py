"""The catalogue as the other services use it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable
from typing import TypeVar

import grpc
from reelway.v1 import catalog_pb2, catalog_pb2_grpc, media_pb2, transcript_pb2, transcript_pb2_grpc

from services.common.call import call
from services.common.caller import Caller, system_caller
from services.common.error_catalog import ErrorReason
from services.common.errors import ReelwayError

_Answer = TypeVar("_Answer")


async def if_found(answer: Awaitable[_Answer]) -> _Answer | None:
    """What the catalogue answers; None where that is VIDEO_NOT_FOUND."""
    try:
        return await answer
    except ReelwayError as error:
        if error.reason is ErrorReason.VIDEO_NOT_FOUND:
            return None
        raise


class CatalogClient:
    """Calls for the caller of the request that the current task serves; raises ReelwayError."""

    def __init__(self, channel: grpc.aio.Channel) -> None:
        self._stub: catalog_pb2_grpc.CatalogServiceAsyncStub = catalog_pb2_grpc.CatalogServiceStub(channel)
        self._transcripts: transcript_pb2_grpc.TranscriptServiceAsyncStub = transcript_pb2_grpc.TranscriptServiceStub(
            channel
        )

    async def create(self, video: media_pb2.Video) -> media_pb2.Video:
        """Add a video; safe to repeat. See CatalogService.CreateVideo."""
        return (await call(self._stub.CreateVideo, catalog_pb2.CreateVideoRequest(video=video))).video

    async def get(self, *, video_id: str = "", number: int = 0) -> media_pb2.Video:
        """One video by either name. See CatalogService.GetVideo."""
        request = (
            catalog_pb2.GetVideoRequest(video_id=video_id) if video_id else catalog_pb2.GetVideoRequest(number=number)
        )
        return (await call(self._stub.GetVideo, request)).video

    async def look_up(self, video_id: str) -> media_pb2.Video:
        """One video regardless of who may see it, tombstones included. See CatalogService.LookUpVideo."""
        request = catalog_pb2.LookUpVideoRequest(video_id=video_id)
        return (await call(self._stub.LookUpVideo, request, system_caller())).video

    async def growing(self) -> AsyncIterator[str]:
        """The ids of everybody's videos that grow, private ones too. See CatalogService.ListVideos."""
        request = catalog_pb2.ListVideosRequest(page_size=1000)
        while True:
            page = await call(self._stub.ListVideos, request, system_caller())
            for video in page.videos:
                # A catalog of an older release, or one that was beside it, lists others, too.
                if video.state == media_pb2.VIDEO_STATE_UPLOADING:
                    yield video.video_id
            request.page_token = page.next_page_token
            if not request.page_token:
                return

    async def delete(self, video_id: str, caller: Caller | None = None) -> None:
        """Delete a video, in another caller's name if one is given. See CatalogService.DeleteVideo."""
        await call(self._stub.DeleteVideo, catalog_pb2.DeleteVideoRequest(video_id=video_id), caller)

    async def seal(self, request: catalog_pb2.SealVideoRequest) -> media_pb2.Video:
        """Make a growing video final; safe to repeat. See CatalogService.SealVideo."""
        return (await call(self._stub.SealVideo, request, system_caller())).video

    async def attach_object(self, request: catalog_pb2.AttachObjectRequest) -> media_pb2.Video:
        """Name a final video's object; safe to repeat. See CatalogService.AttachObject."""
        return (await call(self._stub.AttachObject, request, system_caller())).video

    async def start_transcript(self, request: transcript_pb2.StartTranscriptRequest) -> media_pb2.Video:
        """A worker begins to hear a video; safe to repeat. See TranscriptService.StartTranscript."""
        return (await call(self._transcripts.StartTranscript, request, system_caller())).video

    async def finish_transcript(self, outcome: transcript_pb2.FinishTranscriptRequest) -> media_pb2.Video:
        """What came of a request; safe to repeat. See TranscriptService.FinishTranscript."""
        return (await call(self._transcripts.FinishTranscript, outcome, system_caller())).video
