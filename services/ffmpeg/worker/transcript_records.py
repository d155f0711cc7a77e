"""The record of a transcript as a worker sees it: asked and told in the system's name."""

from __future__ import annotations

import grpc
from reelway.v1 import media_pb2, transcript_pb2

from services.common.catalog_client import CatalogClient, if_found
from services.common.video_state import GONE


class TranscriptRecords:
    """Every method answers None for a video that is gone, and raises ReelwayError."""

    def __init__(self, catalog: grpc.aio.Channel) -> None:
        self._catalog = CatalogClient(catalog)

    async def look_up(self, video_id: str) -> media_pb2.Video | None:
        """The record, regardless of who may see it."""
        video = await if_found(self._catalog.look_up(video_id))
        return None if video is None or video.state in GONE else video

    async def start(self, video_id: str, request: int) -> media_pb2.Video | None:
        """The record, RUNNING if the request is still wanted. See TranscriptService.StartTranscript."""
        message = transcript_pb2.StartTranscriptRequest(video_id=video_id, request=request)
        return await if_found(self._catalog.start_transcript(message))

    async def finish(self, outcome: transcript_pb2.FinishTranscriptRequest) -> media_pb2.Video | None:
        """The record with the outcome. See TranscriptService.FinishTranscript."""
        return await if_found(self._catalog.finish_transcript(outcome))
