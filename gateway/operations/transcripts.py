"""What is said in videos, whatever dialect asks."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Literal, TypeAlias

import grpc
from reelway.v1 import media_pb2, transcript_pb2, transcript_pb2_grpc

from services.common.call import call
from services.common.error_catalog import ErrorReason
from services.common.errors import ReelwayError

TranscriptState: TypeAlias = Literal["pending", "running", "completed", "failed"]
_STATES: Mapping[media_pb2.TranscriptState.ValueType, TranscriptState] = {
    # Nobody asked yet: finalize will.
    media_pb2.TRANSCRIPT_STATE_UNSPECIFIED: "pending",
    media_pb2.TRANSCRIPT_STATE_PENDING: "pending",
    media_pb2.TRANSCRIPT_STATE_RUNNING: "running",
    media_pb2.TRANSCRIPT_STATE_COMPLETED: "completed",
    media_pb2.TRANSCRIPT_STATE_FAILED: "failed",
}


@dataclass(frozen=True)
class TranscriptView:
    """A transcript as clients are told of it."""

    state: TranscriptState
    """Of the newest request; pending, too, while there was none."""
    text: str | None
    """None while there is none; what an earlier request made until another one takes its place."""
    language: str | None
    error: str | None

    @classmethod
    def of(cls, transcript: media_pb2.Transcript) -> TranscriptView:
        """From the record."""
        known = transcript.HasField("result")
        failed = transcript.state == media_pb2.TRANSCRIPT_STATE_FAILED
        return cls(
            _STATES.get(transcript.state, "pending"),
            transcript.result.text if known else None,
            transcript.result.language or None,
            transcript.failure.message if failed else None,
        )


@dataclass(frozen=True)
class Captions:
    """A WebVTT file."""

    data: bytes
    etag: str
    modify_time: datetime


class Transcripts:
    """ReelwayError as TranscriptService says, from every method."""

    def __init__(self, catalog: grpc.aio.Channel) -> None:
        self._stub: transcript_pb2_grpc.TranscriptServiceAsyncStub = transcript_pb2_grpc.TranscriptServiceStub(catalog)

    async def request(self, video_id: str, language: str = "") -> TranscriptView:
        """Have it made, and again where it failed."""
        request = transcript_pb2.RequestTranscriptRequest(video_id=video_id, language=language)
        return TranscriptView.of((await call(self._stub.RequestTranscript, request)).transcript)

    async def request_first(self, video_id: str) -> None:
        """Have it made, if nobody asked before; of a video that still grows once it is finished."""
        request = transcript_pb2.RequestTranscriptRequest(video_id=video_id, first_only=True)
        await call(self._stub.RequestTranscript, request)

    async def get(self, video_id: str) -> TranscriptView:
        """What is known; NO_TRANSCRIPT where nobody asked."""
        answer = await self._get(video_id)
        if not answer.HasField("transcript"):
            raise ReelwayError(ErrorReason.NO_TRANSCRIPT)
        return TranscriptView.of(answer.transcript)

    async def captions(self, video_id: str) -> Captions:
        """The newest captions; NO_TRANSCRIPT while there are none."""
        answer = await self._get(video_id)
        if not answer.captions:
            raise ReelwayError(ErrorReason.NO_TRANSCRIPT)
        result = answer.transcript.result
        # The key names bytes, engine, model and language; the time, the run.
        etag = f'"{result.key.rpartition("/")[2]}-{result.finish_time.ToMilliseconds():x}"'
        return Captions(answer.captions.encode(), etag, result.finish_time.ToDatetime(tzinfo=UTC))

    async def _get(self, video_id: str) -> transcript_pb2.GetTranscriptResponse:
        return await call(self._stub.GetTranscript, transcript_pb2.GetTranscriptRequest(video_id=video_id))
