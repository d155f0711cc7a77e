"""What an attempt at a transcript leaves in the store for the next one, where the catalogue cannot be told."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
from reelway.v1 import media_pb2, transcript_pb2

from services.common.error_catalog import ErrorReason
from services.common.errors import ReelwayError
from services.ffmpeg.transcription.config import EngineConfig
from services.ffmpeg.transcription.piece_store import PieceStore
from services.ffmpeg.transcription.settings import TranscribeSettings
from services.ffmpeg.transcription.transcribe import Outcome, Transcript
from services.ffmpeg.transcription.words import Heard, Piece
from services.ffmpeg.worker.transcribe_handler import TranscribeHandler
from tests.support.foundation import Foundation

VIDEO_ID = "d7be78a8-9a7a-4f25-8b47-92c8d65e9446"
PIECE = Piece(0, 16_000, "model", Heard())


class Records:
    """The catalogue as a worker sees it; it can be away."""

    def __init__(self) -> None:
        self.away = True
        self.video = media_pb2.Video(video_id=VIDEO_ID, etag='"e"', object_key="videos/v.webm", size_bytes=5)
        self.video.transcript.request = 1
        self.video.transcript.state = media_pb2.TRANSCRIPT_STATE_RUNNING

    async def start(self, video_id: str, request: int) -> media_pb2.Video:
        return self.video

    async def finish(self, outcome: transcript_pb2.FinishTranscriptRequest) -> media_pb2.Video:
        if self.away:
            raise ReelwayError(ErrorReason.SERVICE_UNAVAILABLE)
        return self.video


class Hearing:
    """An engine that hears hours in one piece, unless it is there."""

    config = EngineConfig()

    def __init__(self) -> None:
        self.heard = 0

    async def transcribe(self, audio: object, pieces: PieceStore, language: str, progress: object) -> Transcript:
        if await pieces.load() != [PIECE]:
            self.heard += 1
            await pieces.save(PIECE)
        return Transcript(Outcome.NO_SPEECH, model="model", audio_seconds=1.0)


async def test_nothing_is_heard_twice_because_the_outcome_could_not_be_told(near: Foundation, tmp_path: Path) -> None:
    records, hearing = Records(), Hearing()
    handler = TranscribeHandler(
        cast(Any, None),
        objects=near.objects,
        data=near.store,
        records=cast(Any, records),
        settings=TranscribeSettings(),
        video_bytes=10,
    )
    handler._transcriber = cast(Any, hearing)
    await near.objects.put("videos/v.webm", b"bytes", "video/webm")

    async def attempt(name: str) -> Any:
        (tmp_path / name / "in").mkdir(parents=True)
        job = SimpleNamespace(spec={"video_id": VIDEO_ID, "parameters": {"request": "1"}})

        async def still_held() -> None: ...

        folder = SimpleNamespace(path=tmp_path / name)
        context = SimpleNamespace(job=job, folder=folder, still_held=still_held)
        return await handler(cast(Any, context))

    for number in range(2):
        with pytest.raises(ReelwayError):
            await attempt(f"away-{number}")
    records.away = False
    told = await attempt("back")
    assert hearing.heard == 1
    left = {info.key async for info in near.objects.list("transcripts/")}
    assert left == {f"{told['key']}.vtt", f"{told['key']}.json"}
