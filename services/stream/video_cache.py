"""The catalogue's answers, kept for a moment: a seek must not cost a call each time."""

from __future__ import annotations

import asyncio

from reelway.v1 import media_pb2

from services.common.bounded_cache import BoundedCache
from services.common.caller import current_caller
from services.common.catalog_client import CatalogClient

_MOST = 10_000


class VideoCache:
    """Videos by id and user, each answer trusted for `ttl_seconds`; refusals are not kept."""

    def __init__(self, catalog: CatalogClient, ttl_seconds: float) -> None:
        self._catalog, self._ttl = catalog, ttl_seconds
        self._known = BoundedCache[tuple[str, str], tuple[float, media_pb2.Video]](_MOST)

    async def get(self, video_id: str) -> media_pb2.Video:
        """The video as the calling user may see it; VIDEO_NOT_FOUND and the catalogue's other refusals."""
        return await self._younger(video_id, self._ttl)

    async def get_fresh(self, video_id: str) -> media_pb2.Video:
        """As `get`, for callers that remember the answer themselves: at most a tenth of the time old.

        Not asked for anew each time, because many viewers of one video come in the same moment.
        """
        return await self._younger(video_id, self._ttl / 10)

    async def _younger(self, video_id: str, seconds: float) -> media_pb2.Video:
        key = (video_id, current_caller().user)
        now = asyncio.get_running_loop().time()
        if (hit := self._known.get(key)) is not None and now < hit[0] + seconds:
            return hit[1]
        return self._keep(key, now, await self._catalog.get(video_id=video_id))

    async def refresh(self, video_id: str) -> media_pb2.Video:
        """As `get`, but asked now: what is in memory has shown itself to be out of date."""
        self._known.pop((video_id, current_caller().user), None)
        return await self.get(video_id)

    async def get_by_number(self, number: int) -> media_pb2.Video:
        """As `get`; asked once a viewer, so never from memory, but remembered by its id."""
        now = asyncio.get_running_loop().time()
        video = await self._catalog.get(number=number)
        return self._keep((video.video_id, current_caller().user), now, video)

    def _keep(self, key: tuple[str, str], asked_at: float, video: media_pb2.Video) -> media_pb2.Video:
        if video.description or video.HasField("transcript"):
            # Nobody reads them here, and each viewer's answer would keep what may be a hundred KiB.
            for text in ("description", "transcript"):
                video.ClearField(text)
            # Made anew: a message that was parsed keeps all that it was parsed from.
            video = media_pb2.Video.FromString(video.SerializeToString())
        # Counted from before the question, so that the answer is never older than the limit says.
        self._known[key] = (asked_at, video)
        return video
