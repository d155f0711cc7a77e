"""TranscriptService: converts, nothing else."""

from __future__ import annotations

from typing import Any

from reelway.v1 import media_pb2, transcript_pb2, transcript_pb2_grpc

from services.catalog.transcripts import Transcripts
from services.common.caller import current_caller, require_system


class TranscriptServicer(transcript_pb2_grpc.TranscriptServiceServicer):
    """Judges each call for the user of its metadata."""

    def __init__(self, transcripts: Transcripts) -> None:
        self._transcripts = transcripts

    async def RequestTranscript(
        self, request: transcript_pb2.RequestTranscriptRequest, context: Any
    ) -> transcript_pb2.RequestTranscriptResponse:
        transcript = await self._transcripts.request(
            current_caller().user, request.video_id, request.language, first_only=request.first_only
        )
        return transcript_pb2.RequestTranscriptResponse(transcript=transcript)

    async def GetTranscript(
        self, request: transcript_pb2.GetTranscriptRequest, context: Any
    ) -> transcript_pb2.GetTranscriptResponse:
        video, captions = await self._transcripts.captions(current_caller().user, request.video_id)
        return transcript_pb2.GetTranscriptResponse(transcript=_transcript(video), captions=captions)

    async def StartTranscript(
        self, request: transcript_pb2.StartTranscriptRequest, context: Any
    ) -> transcript_pb2.StartTranscriptResponse:
        require_system()
        video = await self._transcripts.start(request.video_id, request.request)
        return transcript_pb2.StartTranscriptResponse(video=video)

    async def FinishTranscript(
        self, request: transcript_pb2.FinishTranscriptRequest, context: Any
    ) -> transcript_pb2.FinishTranscriptResponse:
        require_system()
        return transcript_pb2.FinishTranscriptResponse(video=await self._transcripts.finish(request))


def _transcript(video: media_pb2.Video) -> media_pb2.Transcript | None:
    return video.transcript if video.HasField("transcript") else None
