"""Every video with bytes is looked at: by a job that probes it and makes its picture."""

from __future__ import annotations

from reelway.v1 import ffmpeg_pb2, library_pb2, media_pb2

from services.catalog.access import require_living
from services.catalog.catalog import Catalog
from services.catalog.memberships import PROCESSING, wants_processing
from services.common import entity_tags, fault_points, logs
from services.common.clock import Clock
from services.common.errors import invalid_field
from services.common.object_keys import incoming_key
from services.common.s3_objects import S3Objects
from services.common.video_state import step

log = logs.get_logger(__name__)


class Processing:
    """From arrival to outcome; due_jobs.py sees to it that there is one."""

    name, queue_key = "processing", PROCESSING

    def __init__(self, catalog: Catalog, objects: S3Objects, clock: Clock) -> None:
        self._catalog, self._objects, self._clock = catalog, objects, clock

    async def note_arrival(self, video_id: str, size: int) -> media_pb2.Video:
        """A SIGNED video's bytes are there; the record as it is now. VIDEO_NOT_FOUND."""

        def arrive(video: media_pb2.Video) -> None:
            if video.state == media_pb2.VIDEO_STATE_SIGNED:
                step(video, media_pb2.VIDEO_STATE_PROCESSING)
                video.size_bytes = size
                video.upload_time.FromDatetime(self._clock.now())

        video = await self._catalog.change(video_id, arrive)
        fault_points.reach("arrival.noted")
        return video

    async def finish(self, request: library_pb2.FinishProcessingRequest) -> media_pb2.Video:
        """Write what came of it, unless that was written before; VIDEO_NOT_FOUND for a deleted one, INVALID_REQUEST."""
        if not request.HasField("processed") and not request.failure:
            raise invalid_field("outcome", "must be set")

        def apply(video: media_pb2.Video) -> None:
            require_living(video)
            if not wants_processing(video):
                return
            video.process_time.FromDatetime(self._clock.now())
            upload = video.state == media_pb2.VIDEO_STATE_PROCESSING
            if request.HasField("processed"):
                _describe(video, request.processed)
                if upload:
                    _make_draft(video, request.processed)
                    video.modify_time.FromDatetime(self._clock.now())
            elif upload:
                step(video, media_pb2.VIDEO_STATE_FAILED)
                video.failure = request.failure

        return await self._catalog.change(request.video_id, apply)

    def job(self, video: media_pb2.Video) -> ffmpeg_pb2.RegisterTaskRequest | None:
        """The job that looks at it; None: nobody has to."""
        if not wants_processing(video):
            return None
        upload = video.state == media_pb2.VIDEO_STATE_PROCESSING
        work = ffmpeg_pb2.VideoWork(
            kind=ffmpeg_pb2.TASK_KIND_PROBE,
            video_id=video.video_id,
            parameters={"source": incoming_key(video.video_id)} if upload else {"video": video.object_key},
            share=video.owner,
        )
        priority = ffmpeg_pb2.TASK_PRIORITY_INTERACTIVE if upload else ffmpeg_pb2.TASK_PRIORITY_NORMAL
        return ffmpeg_pb2.RegisterTaskRequest(video=work, request_id=f"process-{video.video_id}", priority=priority)

    async def give_up(self, video: media_pb2.Video, error: ffmpeg_pb2.TaskError) -> None:
        """The job ended without an outcome."""
        failure = media_pb2.PROCESSING_FAILURE_INTERNAL
        await self.finish(library_pb2.FinishProcessingRequest(video_id=video.video_id, failure=failure))

    async def expire(self, video_id: str) -> None:
        """Give up a signed upload that never arrived; one whose arrival was not noticed goes on from there."""
        if await self._catalog.catch_up(video_id):
            log.error("the index is older than the record in S3", video_id=video_id)
            return
        info = await self._objects.head(incoming_key(video_id))
        if info is not None:
            await self.note_arrival(video_id, info.size)
            return
        log.info("a signed upload never arrived", video_id=video_id)

        def end(video: media_pb2.Video) -> None:
            if video.state == media_pb2.VIDEO_STATE_SIGNED:
                step(video, media_pb2.VIDEO_STATE_DELETING)
                # Whoever signed for it never had a video: a tombstone must not make that user known.
                video.owner = ""

        await self._catalog.bury(video_id, end)


def _describe(video: media_pb2.Video, found: library_pb2.Processed) -> None:
    if found.HasField("duration_seconds"):
        video.duration_seconds = found.duration_seconds
    video.width, video.height = found.width, found.height
    video.video_codec, video.audio_codec = found.video_codec, found.audio_codec
    video.thumbnail_key = found.thumbnail_key


def _make_draft(video: media_pb2.Video, found: library_pb2.Processed) -> None:
    step(video, media_pb2.VIDEO_STATE_DRAFT)
    video.container, video.size_bytes = found.container, found.size_bytes
    video.sha256, video.etag = found.sha256, entity_tags.of_file(found.sha256)
    video.object_key = found.object_key
    video.title = video.title or video.file_name
