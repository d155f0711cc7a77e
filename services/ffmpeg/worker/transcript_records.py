"""The record of a transcript as a worker sees it: asked and told in the system's name."""

from __future__ import annotations

from collections.abc import Awaitable

import grpc
from reelway.v1 import media_pb2, transcript_pb2, transcript_pb2_grpc

from services.common.caller import system_caller
from services.common.catalog_client import CatalogClient
from services.common.channel import CALL_SECONDS
from services.common.error_catalog import ErrorReason
from services.common.error_translator import from_rpc_error
from services.common.errors import ReelwayError
from services.common.video_state import GONE


class TranscriptRecords:
    """Every method answers None for a video that is gone, and raises ReelwayError."""

    def __init__(self, catalog: grpc.aio.Channel) -> None:
        self._catalog = CatalogClient(catalog)
        self._transcripts: transcript_pb2_grpc.TranscriptServiceAsyncStub = transcript_pb2_grpc.TranscriptServiceStub(
            catalog
        )

    async def look_up(self, video_id: str) -> media_pb2.Video | None:
        """The record, whoever may see it."""
        video = await _unless_gone(self._catalog.look_up(video_id))
        return None if video is None or video.state in GONE else video

    async def start(self, video_id: str, request: int) -> media_pb2.Video | None:
        """The record, RUNNING if the request is still wanted. See TranscriptService.StartTranscript."""
        message = transcript_pb2.StartTranscriptRequest(video_id=video_id, request=request)

        async def call() -> media_pb2.Video:
            try:
                answer = await self._transcripts.StartTranscript(
                    message, timeout=CALL_SECONDS, metadata=system_caller().metadata()
                )
            except grpc.aio.AioRpcError as error:
                raise from_rpc_error(error) from None
            return answer.video

        return await _unless_gone(call())

    async def finish(self, outcome: transcript_pb2.FinishTranscriptRequest) -> media_pb2.Video | None:
        """The record with the outcome. See TranscriptService.FinishTranscript."""

        async def call() -> media_pb2.Video:
            try:
                answer = await self._transcripts.FinishTranscript(
                    outcome, timeout=CALL_SECONDS, metadata=system_caller().metadata()
                )
            except grpc.aio.AioRpcError as error:
                raise from_rpc_error(error) from None
            return answer.video

        return await _unless_gone(call())


async def _unless_gone(call: Awaitable[media_pb2.Video]) -> media_pb2.Video | None:
    try:
        return await call
    except ReelwayError as error:
        if error.reason is ErrorReason.VIDEO_NOT_FOUND:
            return None
        raise
