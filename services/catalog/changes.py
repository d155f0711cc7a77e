"""One change of one record, again where another change came between."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Callable

from reelway.v1 import media_pb2

from services.catalog.catalog import Catalog, check_uuid
from services.catalog.video_store import VideoStore
from services.common.backoff import Backoff
from services.common.error_catalog import ErrorReason
from services.common.errors import ReelwayError

_BACKOFF = Backoff(attempts=10, first_seconds=0.01, longest_seconds=0.2)


async def change(
    catalog: Catalog, store: VideoStore, video_id: str, apply: Callable[[media_pb2.Video], bool]
) -> media_pb2.Video:
    """The record with `apply` done to it, and durable; `apply` says whether it changed anything, or raises.

    It is given tombstones, too, and judges who may do what.

    Raises:
        ReelwayError: VIDEO_NOT_FOUND where there never was one; SERVICE_UNAVAILABLE where others always come first.
    """
    check_uuid(video_id)
    for attempt in range(1, _BACKOFF.attempts + 1):
        video = await store.get(video_id)
        if video is None:
            raise ReelwayError(ErrorReason.VIDEO_NOT_FOUND)
        if not apply(video):
            # A first call may have died before it saved what this answer promises.
            await catalog.save(video, "")
            return video
        video.version += 1
        mark = uuid.uuid4().hex
        if await store.replace(video, mark):
            await catalog.save(video, mark)
            return video
        await asyncio.sleep(_BACKOFF.pause(attempt))
    raise ReelwayError(ErrorReason.SERVICE_UNAVAILABLE)
