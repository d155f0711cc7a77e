"""What the upload service may do to the records of videos that were appended, in the system's own name."""

from __future__ import annotations

from reelway.v1 import catalog_pb2, media_pb2

from services.catalog.access import require_living
from services.catalog.catalog import Catalog
from services.common.clock import Clock
from services.common.containers import KINDS
from services.common.error_catalog import ErrorReason
from services.common.errors import ReelwayError, invalid_field
from services.common.video_state import step


class JournalChanges:
    """From a growing video to one object; every change is safe to repeat."""

    def __init__(self, catalog: Catalog, clock: Clock) -> None:
        self._catalog, self._clock = catalog, clock

    async def seal(self, request: catalog_pb2.SealVideoRequest) -> media_pb2.Video:
        """Make a growing video final; VIDEO_NOT_FOUND, NOT_A_VIDEO, VIDEO_CHANGED, INVALID_REQUEST."""
        try:
            request.modify_time.ToJsonString()
        except ValueError:
            # The index would take it, and the record could not be written as JSON any more.
            raise invalid_field("modify_time", "must be a time of the years 1 to 9999") from None

        def freeze(video: media_pb2.Video) -> None:
            require_living(video)
            if request.container not in KINDS:
                raise ReelwayError(ErrorReason.NOT_A_VIDEO)
            if video.state == media_pb2.VIDEO_STATE_READY:
                if video.etag != request.etag and not video.object_key:
                    raise ReelwayError(ErrorReason.VIDEO_CHANGED)
                return
            step(video, media_pb2.VIDEO_STATE_READY)
            video.size_bytes, video.etag, video.container = request.size_bytes, request.etag, request.container
            if request.HasField("modify_time"):
                video.modify_time.CopyFrom(request.modify_time)
            else:
                video.modify_time.FromDatetime(self._clock.now())

        return await self._catalog.change(request.video_id, freeze)

    async def attach_object(self, request: catalog_pb2.AttachObjectRequest) -> media_pb2.Video:
        """Name a final video's object; VIDEO_NOT_FOUND, VIDEO_CHANGED."""

        def attach(video: media_pb2.Video) -> None:
            require_living(video)
            if video.object_key == request.object_key:
                return
            if video.state != media_pb2.VIDEO_STATE_READY or video.object_key:
                raise ReelwayError(ErrorReason.VIDEO_CHANGED)
            video.object_key, video.container = request.object_key, request.container
            video.size_bytes, video.etag = request.size_bytes, request.etag

        return await self._catalog.change(request.video_id, attach)
