"""Sees to it that every video with bytes is looked at: by a job that probes it and makes its picture.

What is to be done stands in the records (memberships.wants_processing), so that nothing is forgotten: a video stays
in the list `processing` until an outcome was written, and its job is registered again and again under one name, which
the queue takes for one job.
"""

from __future__ import annotations

import asyncio
import uuid

from reelway.v1 import ffmpeg_pb2, library_pb2, media_pb2

from services.catalog.catalog import Catalog
from services.catalog.changes import change
from services.catalog.library_store import LibraryStore
from services.catalog.memberships import PROCESSING, wants_processing
from services.catalog.redis_video_store import RedisVideoStore
from services.catalog.video_jobs import VideoJobs
from services.common import fault_points, logs
from services.common.caller import SYSTEM_USER, current_caller, set_caller, system_caller
from services.common.clock import Clock
from services.common.error_catalog import ErrorReason
from services.common.errors import ReelwayError
from services.common.library_keys import incoming_key
from services.common.video_state import GONE, step

log = logs.get_logger(__name__)

_LOOK_SECONDS = 0.5
_AGAIN_SECONDS = 30.0
_AT_ONCE = 32
_EXPIRY_LOOK_SECONDS = 30.0


def require_system() -> None:
    """UNAUTHENTICATED unless one of our own processes calls in its own name."""
    if current_caller().user != SYSTEM_USER:
        raise ReelwayError(ErrorReason.UNAUTHENTICATED)


class Processing:
    """From arrival to outcome."""

    def __init__(self, catalog: Catalog, videos: RedisVideoStore, clock: Clock) -> None:
        self._catalog, self._videos, self._clock = catalog, videos, clock

    async def note_arrival(self, video_id: str, size: int) -> media_pb2.Video:
        """A SIGNED video's bytes are there; the record as it is now. VIDEO_NOT_FOUND."""

        def arrive(video: media_pb2.Video) -> bool:
            if video.state != media_pb2.VIDEO_STATE_SIGNED:
                return False
            step(video, media_pb2.VIDEO_STATE_PROCESSING)
            video.size_bytes = size
            video.upload_time.FromDatetime(self._clock.now())
            return True

        video = await change(self._catalog, self._videos, video_id, arrive)
        fault_points.reach("arrival.noted")
        return video

    async def finish(self, request: library_pb2.FinishProcessingRequest) -> media_pb2.Video:
        """Write what came of it, unless that was written before; VIDEO_NOT_FOUND for a deleted video."""

        def apply(video: media_pb2.Video) -> bool:
            if video.state in GONE:
                raise ReelwayError(ErrorReason.VIDEO_NOT_FOUND)
            if not wants_processing(video):
                return False
            video.process_time.FromDatetime(self._clock.now())
            upload = video.state == media_pb2.VIDEO_STATE_PROCESSING
            if request.WhichOneof("outcome") == "processed":
                _describe(video, request.processed)
                if upload:
                    _make_draft(video, request.processed)
                    video.modify_time.FromDatetime(self._clock.now())
            elif upload:
                step(video, media_pb2.VIDEO_STATE_FAILED)
                video.failure = request.failure or media_pb2.PROCESSING_FAILURE_INTERNAL
            return True

        return await change(self._catalog, self._videos, request.video_id, apply)

    async def expire(self, video_id: str) -> None:
        """Give up a signed upload that never arrived."""

        def bury(video: media_pb2.Video) -> bool:
            if video.state != media_pb2.VIDEO_STATE_SIGNED:
                return False
            step(video, media_pb2.VIDEO_STATE_DELETING)
            return True

        await change(self._catalog, self._videos, video_id, bury)
        await self._catalog.finish_delete(video_id)


def _describe(video: media_pb2.Video, found: library_pb2.Processed) -> None:
    if found.HasField("duration_seconds"):
        video.duration_seconds = found.duration_seconds
    video.width, video.height = found.width, found.height
    video.video_codec, video.audio_codec = found.video_codec, found.audio_codec
    video.thumbnail_key = found.thumbnail_key


def _make_draft(video: media_pb2.Video, found: library_pb2.Processed) -> None:
    step(video, media_pb2.VIDEO_STATE_DRAFT)
    video.container, video.size_bytes = found.container, found.size_bytes
    video.sha256, video.etag = found.sha256, f'"{found.sha256[:32]}"'
    video.object_key = found.object_key
    video.title = video.title or video.file_name


class Dispatcher:
    """Runs on every replica; each takes videos that no other one has taken."""

    def __init__(
        self,
        processing: Processing,
        *,
        videos: RedisVideoStore,
        lists: LibraryStore,
        jobs: VideoJobs,
        clock: Clock,
        signed_seconds: float,
    ) -> None:
        self._processing, self._videos, self._lists, self._clock = processing, videos, lists, clock
        self._jobs, self._signed_seconds = jobs, signed_seconds
        self._next_expiry = 0.0

    async def run(self) -> None:
        """For ever."""
        while True:
            set_caller(system_caller())
            try:
                await self.look()
            except ReelwayError as error:
                log.warning("processing put off", why=str(error))
            except Exception:
                log.exception("processing failed")
            await asyncio.sleep(_LOOK_SECONDS)

    async def look(self) -> None:
        """See to what is due, all of it on its own: one bad record must not hold the others back."""
        now = self._clock.seconds()
        while due := await self._lists.claim(PROCESSING, now, now + _AGAIN_SECONDS, _AT_ONCE):
            ended = await asyncio.gather(*map(self._see_to, due), return_exceptions=True)
            for video_id, error in zip(due, ended, strict=True):
                if error is not None:
                    log.warning("cannot see to a video", video_id=video_id, why=f"{type(error).__name__}: {error}")
        if now >= self._next_expiry:
            self._next_expiry = now + min(_EXPIRY_LOOK_SECONDS, self._signed_seconds)
            for video_id in await self._lists.signed_before(now - self._signed_seconds):
                log.info("a signed upload never arrived", video_id=video_id)
                await self._processing.expire(video_id)

    async def _see_to(self, video_id: str) -> None:
        video = await self._videos.get(video_id)
        if video is None or not wants_processing(video):
            return
        task = await self._register(video, f"process-{video_id}")
        fault_points.reach("processing.registered")
        if task.state == ffmpeg_pb2.TASK_STATE_COMPLETED:
            log.warning("a job left no outcome, running it again", video_id=video_id)
            await self._register(video, uuid.uuid4().hex)
        elif task.state in (ffmpeg_pb2.TASK_STATE_FAILED, ffmpeg_pb2.TASK_STATE_CANCELLED):
            log.error("processing was given up", video_id=video_id, task=task.task_id, why=task.error.reason)
            await self._processing.finish(
                library_pb2.FinishProcessingRequest(video_id=video_id, failure=media_pb2.PROCESSING_FAILURE_INTERNAL)
            )

    async def _register(self, video: media_pb2.Video, name: str) -> ffmpeg_pb2.Task:
        upload = video.state == media_pb2.VIDEO_STATE_PROCESSING
        work = ffmpeg_pb2.VideoWork(
            kind=ffmpeg_pb2.TASK_KIND_PROBE,
            video_id=video.video_id,
            parameters={"source": incoming_key(video.video_id)} if upload else {"video": video.object_key},
        )
        priority = ffmpeg_pb2.TASK_PRIORITY_INTERACTIVE if upload else ffmpeg_pb2.TASK_PRIORITY_NORMAL
        return await self._jobs.register(work, name, priority)
