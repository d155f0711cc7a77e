"""Sees to it that every transcript that was asked for ends: its job is registered until it has left an outcome."""

from __future__ import annotations

import asyncio
import uuid

from reelway.v1 import ffmpeg_pb2, media_pb2, transcript_pb2

from services.catalog.library_store import LibraryStore
from services.catalog.memberships import TRANSCRIBING, wants_transcript
from services.catalog.redis_video_store import RedisVideoStore
from services.catalog.transcripts import Hearing, Transcripts
from services.catalog.video_jobs import VideoJobs
from services.common import fault_points, logs
from services.common.caller import set_caller, system_caller
from services.common.clock import Clock
from services.common.errors import ReelwayError

log = logs.get_logger(__name__)

_LOOK_SECONDS = 0.5
_AGAIN_SECONDS = 30.0
_AT_ONCE = 32
_ENDED_WITHOUT = (ffmpeg_pb2.TASK_STATE_FAILED, ffmpeg_pb2.TASK_STATE_CANCELLED)


class TranscriptDispatcher:
    """Runs on every replica; each takes videos that no other one has taken."""

    def __init__(
        self,
        transcripts: Transcripts,
        *,
        videos: RedisVideoStore,
        lists: LibraryStore,
        jobs: VideoJobs,
        clock: Clock,
        hearing: Hearing,
    ) -> None:
        self._transcripts, self._videos, self._lists = transcripts, videos, lists
        self._jobs, self._clock, self._hearing = jobs, clock, hearing

    async def run(self) -> None:
        """For ever."""
        while True:
            set_caller(system_caller())
            try:
                await self.look()
            except ReelwayError as error:
                log.warning("transcripts put off", why=str(error))
            except Exception:
                log.exception("looking after transcripts failed")
            await asyncio.sleep(_LOOK_SECONDS)

    async def look(self) -> None:
        """See to what is due, each on its own: one bad record must not hold the others back."""
        now = self._clock.seconds()
        while due := await self._lists.claim(TRANSCRIBING, now, now + _AGAIN_SECONDS, _AT_ONCE):
            ended = await asyncio.gather(*map(self._see_to, due), return_exceptions=True)
            for video_id, error in zip(due, ended, strict=True):
                if error is not None:
                    log.warning("cannot see to a transcript", video_id=video_id, why=f"{type(error).__name__}: {error}")

    async def _see_to(self, video_id: str) -> None:
        video = await self._videos.get(video_id)
        if video is None or not wants_transcript(video):
            return
        request = video.transcript.request
        language = self._hearing.language_of(video.transcript)
        work = ffmpeg_pb2.VideoWork(
            kind=ffmpeg_pb2.TASK_KIND_TRANSCRIBE,
            video_id=video_id,
            parameters={"etag": video.etag, "language": language, "request": str(request)},
        )
        # Names the video, its bytes, the engine and the model; and, where it failed before, which try this is.
        name = f"transcribe-{self._hearing.key(video, language)}-{request}"
        task = await self._jobs.register(work, name, ffmpeg_pb2.TASK_PRIORITY_NORMAL)
        fault_points.reach("transcript.registered")
        if task.state == ffmpeg_pb2.TASK_STATE_COMPLETED:
            log.warning("a transcription left no outcome, running it again", video_id=video_id)
            await self._jobs.register(work, uuid.uuid4().hex, ffmpeg_pb2.TASK_PRIORITY_NORMAL)
        elif task.state in _ENDED_WITHOUT:
            log.error("a transcription was given up", video_id=video_id, task=task.task_id, why=task.error.reason)
            failure = media_pb2.TranscriptFailure(
                reason=task.error.reason or "CANCELLED", message=task.error.message or "Transcription was cancelled"
            )
            await self._transcripts.finish(
                transcript_pb2.FinishTranscriptRequest(video_id=video_id, request=request, failure=failure)
            )
