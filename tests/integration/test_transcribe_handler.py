"""What a transcribe job does where nobody waits for it any more, and what an attempt leaves for the next one."""

import asyncio
import itertools
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast
from unittest.mock import Mock

import pytest
from reelway.v1 import media_pb2, transcript_pb2

from services.common.error_catalog import ErrorReason
from services.common.errors import ReelwayError
from services.ffmpeg.job import JobFault
from services.ffmpeg.redis_job_store import Holding
from services.ffmpeg.transcription.config import EngineConfig
from services.ffmpeg.transcription.failure import FailureReason, TranscriptionError
from services.ffmpeg.transcription.piece_store import PieceStore, S3Pieces
from services.ffmpeg.transcription.settings import TranscribeSettings
from services.ffmpeg.transcription.transcribe import Outcome, Transcript
from services.ffmpeg.transcription.words import Heard, Piece
from services.ffmpeg.worker import while_there
from services.ffmpeg.worker.handler import NoLongerHeld
from services.ffmpeg.worker.transcribe_handler import TranscribeHandler
from tests.support.foundation import Foundation

VIDEO_ID = "d7be78a8-9a7a-4f25-8b47-92c8d65e9446"
PIECE = Piece(0, 16_000, "model", Heard())


class Catalog:
    """The catalogue as a worker sees it; it can be away."""

    def __init__(self) -> None:
        self.away, self.deleted, self.deleted_meanwhile = True, False, False
        self.told: list[str] = []
        self.video = media_pb2.Video(video_id=VIDEO_ID, etag='"e"', object_key="videos/v.webm", size_bytes=5)
        self.video.transcript.request = 1
        self.video.transcript.state = media_pb2.TRANSCRIPT_STATE_RUNNING

    async def start_transcript(self, request: transcript_pb2.StartTranscriptRequest) -> media_pb2.Video:
        if self.deleted:
            raise ReelwayError(ErrorReason.VIDEO_NOT_FOUND)
        return self.video

    async def look_up(self, video_id: str) -> media_pb2.Video:
        if self.deleted:
            return media_pb2.Video(video_id=video_id, state=media_pb2.VIDEO_STATE_DELETED)
        return self.video

    async def finish_transcript(self, outcome: transcript_pb2.FinishTranscriptRequest) -> media_pb2.Video:
        if self.away:
            raise ReelwayError(ErrorReason.SERVICE_UNAVAILABLE)
        if self.deleted or self.deleted_meanwhile:
            raise ReelwayError(ErrorReason.VIDEO_NOT_FOUND)
        self.told.append(outcome.failure.reason)
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


class Endless(Hearing):
    """One that is never done."""

    def __init__(self) -> None:
        super().__init__()
        self.begun = asyncio.Event()

    async def transcribe(self, audio: object, pieces: PieceStore, language: str, progress: object) -> Transcript:
        await pieces.save(PIECE)
        self.begun.set()
        await asyncio.Event().wait()
        raise AssertionError


class Failing(Hearing):
    """One that cannot hear."""

    def __init__(self, reason: FailureReason) -> None:
        super().__init__()
        self.reason = reason

    async def transcribe(self, *_: object) -> Transcript:
        raise TranscriptionError(self.reason)


@dataclass(frozen=True)
class Case:
    """A handler with what it works on, and a folder for each attempt."""

    handler: TranscribeHandler
    catalog: Catalog
    folder: Path
    looks: Iterator[bool] = field(default_factory=lambda: itertools.repeat(True))
    """Whether the attempt still has its lease, each time that it asks."""

    async def attempt(self, name: str, hearing: object, **parameters: str) -> Any:
        self.handler._transcriber = cast(Any, hearing)
        (self.folder / name / "in").mkdir(parents=True)
        job = SimpleNamespace(spec={"video_id": VIDEO_ID, "parameters": {"request": "1", **parameters}})

        async def still_held() -> None:
            if not next(self.looks):
                raise NoLongerHeld(Holding.LOST)

        folder = SimpleNamespace(path=self.folder / name)
        context = SimpleNamespace(job=job, folder=folder, still_held=still_held)
        return await self.handler(cast(Any, context))


@pytest.fixture
async def case(near: Foundation, tmp_path: Path) -> Case:
    handler = TranscribeHandler(
        cast(Any, None),
        objects=near.objects,
        data=near.store,
        catalog=Mock(),
        settings=TranscribeSettings(),
        video_bytes=10,
    )
    await near.objects.put("videos/v.webm", b"bytes", "video/webm")
    handler._catalog = catalog = cast(Any, Catalog())
    return Case(handler, catalog, tmp_path)


async def test_a_video_that_has_other_bytes_by_now_is_left_alone(case: Case) -> None:
    hearing = Hearing()
    assert await case.attempt("changed", hearing, etag='"another"') == {"outcome": "changed"}
    assert hearing.heard == 0


async def test_a_request_that_has_its_outcome_is_not_heard_again(case: Case) -> None:
    hearing = Hearing()
    case.catalog.video.transcript.state = media_pb2.TRANSCRIPT_STATE_COMPLETED
    assert await case.attempt("completed", hearing) == {"outcome": "answered"}
    case.catalog.video.transcript.request = 2
    case.catalog.video.transcript.state = media_pb2.TRANSCRIPT_STATE_RUNNING
    assert await case.attempt("newer", hearing) == {"outcome": "answered"}
    assert hearing.heard == 0


async def test_nothing_is_left_of_a_video_that_was_deleted(near: Foundation, case: Case) -> None:
    await near.objects.put(f"transcripts/{VIDEO_ID}/x.vtt", b"WEBVTT\n\n", "text/vtt")
    case.catalog.deleted = True
    assert await case.attempt("deleted", Hearing()) == {"outcome": "gone"}
    assert [info async for info in near.objects.list("transcripts/")] == []


async def test_nothing_is_left_of_a_video_that_was_deleted_while_it_was_heard(near: Foundation, case: Case) -> None:
    case.catalog.away, case.catalog.deleted_meanwhile = False, True
    assert await case.attempt("deleted", Hearing()) == {"outcome": "gone"}
    assert [info async for info in near.objects.list("transcripts/")] == []


@pytest.mark.parametrize("held", [0, 1])
async def test_an_attempt_that_lost_its_lease_writes_nothing_more(near: Foundation, case: Case, held: int) -> None:
    """It asks before it stores the captions, and before it tells the catalogue."""
    case.catalog.away = False
    attempt = replace(case, looks=iter([True] * held + [False])).attempt("lost", Hearing())
    with pytest.raises(NoLongerHeld):
        await attempt
    assert case.catalog.told == []
    kinds = {
        info.key.rpartition(".")[2] async for info in near.objects.list("transcripts/") if "pieces" not in info.key
    }
    assert kinds == ({"vtt", "json"} if held else set())


@pytest.mark.parametrize(
    ("video", "told"),
    [
        ({"size_bytes": 11}, ("INPUT_TOO_LARGE", False, ["INPUT_TOO_LARGE"])),
        ({"object_key": ""}, ("INPUT_UNAVAILABLE", True, [])),
        ({"object_key": "videos/gone.webm"}, ("INPUT_UNAVAILABLE", True, [])),
    ],
)
async def test_a_video_that_cannot_be_fetched_is_told_of_where_that_is_final(
    case: Case, video: dict[str, Any], told: tuple[str, bool, list[str]]
) -> None:
    case.catalog.away = False
    for name, value in video.items():
        setattr(case.catalog.video, name, value)
    with pytest.raises(JobFault) as raised:
        await case.attempt("unfetched", Hearing())
    assert (raised.value.failure.reason, raised.value.may_pass, case.catalog.told) == told


async def test_a_piece_that_cannot_be_read_is_heard_again(near: Foundation) -> None:
    pieces = S3Pieces(near.objects, VIDEO_ID, "key")
    await pieces.save(PIECE)
    await near.objects.put(f"transcripts/{VIDEO_ID}/pieces/key/0-1.json", b"{cut off", "application/json")
    assert await pieces.load() == [PIECE]
    await pieces.clear()


async def test_hearing_ends_when_its_video_is_deleted(
    near: Foundation, case: Case, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It could take hours, and sends the sound to the server that hears it where one is configured."""
    monkeypatch.setattr(while_there, "_LOOK_SECONDS", 0.05)
    case.catalog.away = False
    hearing = Endless()
    attempt = asyncio.create_task(case.attempt("endless", hearing))
    await hearing.begun.wait()
    case.catalog.deleted = True
    with pytest.raises(JobFault) as raised:
        async with asyncio.timeout(10):
            await attempt
    assert (raised.value.failure.reason, raised.value.may_pass) == ("INPUT_UNAVAILABLE", False)
    assert [info async for info in near.objects.list("transcripts/")] == []


async def test_a_full_disk_is_no_outcome(case: Case) -> None:
    """Its reason is the one for which the catalogue registers successors, once the job has no more tries."""
    case.catalog.away = False
    with pytest.raises(JobFault) as raised:
        await case.attempt("full", Failing(FailureReason.STORAGE_UNAVAILABLE))
    assert (raised.value.failure.reason, raised.value.may_pass) == ("STORAGE_UNAVAILABLE", True)
    assert case.catalog.told == []
    with pytest.raises(JobFault):
        await case.attempt("missing", Failing(FailureReason.MODEL_UNAVAILABLE))
    assert case.catalog.told == ["MODEL_UNAVAILABLE"]


async def test_nothing_is_heard_twice_because_the_outcome_could_not_be_told(near: Foundation, case: Case) -> None:
    hearing = Hearing()
    for number in range(2):
        with pytest.raises(ReelwayError):
            await case.attempt(f"away-{number}", hearing)
    case.catalog.away = False
    told = await case.attempt("back", hearing)
    assert hearing.heard == 1
    left = {info.key async for info in near.objects.list("transcripts/")}
    assert left == {f"{told['key']}.vtt", f"{told['key']}.json"}
