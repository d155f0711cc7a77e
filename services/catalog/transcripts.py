"""What is said in videos: asked for, made by a job, and told. Start reading here for transcripts.

The request stands in the video's record, so that nothing is forgotten: due_jobs.py registers its job again and again
until an outcome is written. An outcome names the request that it answers; only the newest one's counts, and only once.
"""

from __future__ import annotations

from dataclasses import dataclass

from reelway.v1 import ffmpeg_pb2, media_pb2, transcript_pb2

from services.catalog.access import require_change, require_living
from services.catalog.catalog import Catalog
from services.catalog.memberships import TRANSCRIBING, wants_transcript
from services.catalog.transcript_state import UNDER_WAY, step
from services.common import logs
from services.common.clock import Clock
from services.common.error_catalog import ErrorReason
from services.common.errors import ReelwayError, invalid_field
from services.common.language_tag import primary_language
from services.common.object_keys import captions_key, transcript_key, transcript_prefix
from services.common.s3_objects import S3Objects
from services.common.task_failure import TaskFailure

log = logs.get_logger(__name__)


@dataclass(frozen=True)
class Hearing:
    """How the workers are configured, as far as it names a transcript."""

    engine: str
    model: str
    language: str

    def language_of(self, transcript: media_pb2.Transcript) -> str:
        """What it is heard in; empty: detected."""
        return transcript.requested_language or self.language

    def key(self, video: media_pb2.Video, language: str) -> str:
        """Names the transcript of these bytes in a language that was asked for."""
        return transcript_key(video.video_id, video.etag, self.engine, self.model, language or self.language)


class Transcripts:
    """Judges the calls of clients for their user; those of workers come from the system."""

    name, queue_key = "transcript", TRANSCRIBING

    def __init__(self, catalog: Catalog, objects: S3Objects, clock: Clock, hearing: Hearing) -> None:
        self._catalog, self._objects = catalog, objects
        self._clock, self._hearing = clock, hearing

    async def request(self, user: str, video_id: str, tag: str, *, first_only: bool) -> media_pb2.Transcript:
        """Ask for a transcript, unless it is there or under way; `first_only` of a video that grows, too.

        Raises:
            ReelwayError: VIDEO_NOT_FOUND, NOT_THE_OWNER, NOT_SEALED, TRANSCRIPT_UNDER_WAY, INVALID_REQUEST.
        """
        try:
            language = primary_language(tag)
        except ValueError:
            raise invalid_field("language", "must be a language tag, such as en or pt-BR", "language_tag") from None

        def ask(video: media_pb2.Video) -> None:
            require_change(video, user)
            if video.state == media_pb2.VIDEO_STATE_UPLOADING and not first_only:
                raise ReelwayError(ErrorReason.NOT_SEALED)
            transcript = video.transcript
            if first_only and transcript.request:
                return
            if transcript.state in UNDER_WAY:
                if self._hearing.language_of(transcript) != (language or self._hearing.language):
                    raise ReelwayError(ErrorReason.TRANSCRIPT_UNDER_WAY)
                return
            if transcript.state == media_pb2.TRANSCRIPT_STATE_COMPLETED and self._made(video, language):
                return
            step(transcript, media_pb2.TRANSCRIPT_STATE_PENDING)
            transcript.request += 1
            transcript.requested_language = language
            transcript.request_time.FromDatetime(self._clock.now())
            transcript.ClearField("failure")

        return (await self._catalog.change(video_id, ask)).transcript

    def _made(self, video: media_pb2.Video, language: str) -> bool:
        return video.transcript.result.key == transcript_prefix(video.video_id) + self._hearing.key(video, language)

    async def captions(self, user: str, video_id: str) -> tuple[media_pb2.Video, str]:
        """The video and the WebVTT of its transcript, empty where there is none; VIDEO_NOT_FOUND."""
        # Twice: the sweeper may remove what was replaced between the record and its object.
        for _ in range(2):
            video = await self._catalog.get(user, video_id=video_id)
            if not video.transcript.HasField("result"):
                return video, ""
            captions = await self._objects.get(captions_key(video.transcript.result.key))
            if captions is not None:
                return video, captions.decode()
        log.error("captions are gone", video_id=video_id, key=video.transcript.result.key)
        raise ReelwayError(ErrorReason.STORE_UNAVAILABLE)

    async def start(self, video_id: str, request: int) -> media_pb2.Video:
        """A worker begins; the record as it is then. VIDEO_NOT_FOUND for a deleted video."""

        def begin(video: media_pb2.Video) -> None:
            require_living(video)
            transcript = video.transcript
            if transcript.request == request and transcript.state == media_pb2.TRANSCRIPT_STATE_PENDING:
                step(transcript, media_pb2.TRANSCRIPT_STATE_RUNNING)

        return await self._catalog.change(video_id, begin)

    async def finish(self, outcome: transcript_pb2.FinishTranscriptRequest) -> media_pb2.Video:
        """Write what came of a request that is still wanted; VIDEO_NOT_FOUND for a deleted video, INVALID_REQUEST."""
        if outcome.WhichOneof("outcome") is None:
            raise invalid_field("outcome", "must be set")

        def end(video: media_pb2.Video) -> None:
            require_living(video)
            transcript = video.transcript
            if transcript.request != outcome.request or transcript.state not in UNDER_WAY:
                return
            if outcome.WhichOneof("outcome") == "result":
                step(transcript, media_pb2.TRANSCRIPT_STATE_COMPLETED)
                transcript.result.CopyFrom(outcome.result)
                transcript.result.finish_time.FromDatetime(self._clock.now())
            else:
                step(transcript, media_pb2.TRANSCRIPT_STATE_FAILED)
                transcript.failure.CopyFrom(outcome.failure)

        return await self._catalog.change(outcome.video_id, end)

    def job(self, video: media_pb2.Video) -> ffmpeg_pb2.RegisterTaskRequest | None:
        """The job that hears it; None: nobody waits for it."""
        if not wants_transcript(video):
            return None
        request, language = str(video.transcript.request), self._hearing.language_of(video.transcript)
        work = ffmpeg_pb2.VideoWork(
            kind=ffmpeg_pb2.TASK_KIND_TRANSCRIBE,
            video_id=video.video_id,
            parameters={"etag": video.etag, "language": language, "request": request},
            share=video.owner,
        )
        # Names the video, its bytes, the engine and the model; and, where it failed before, which try this is.
        name = f"transcribe-{self._hearing.key(video, language)}-{request}"
        return ffmpeg_pb2.RegisterTaskRequest(video=work, request_id=name)

    async def give_up(self, video: media_pb2.Video, error: ffmpeg_pb2.TaskError) -> None:
        """The job ended without an outcome."""
        failure = media_pb2.TranscriptFailure(
            reason=error.reason or TaskFailure.CANCELLED, message=error.message or "Transcription was cancelled"
        )
        outcome = transcript_pb2.FinishTranscriptRequest(video_id=video.video_id, failure=failure)
        outcome.request = video.transcript.request
        await self.finish(outcome)
