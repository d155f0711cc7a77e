"""Removes what was heard and belongs to no transcript: what was replaced, and what attempts left that never ended."""

from __future__ import annotations

from datetime import timedelta

from reelway.v1 import media_pb2

from services.catalog.redis_video_store import RedisVideoStore
from services.catalog.transcript_state import UNDER_WAY
from services.common import logs
from services.common.clock import Clock
from services.common.lease import Lease
from services.common.object_keys import TRANSCRIPTS, captions_key, document_key
from services.common.periodic import periodically
from services.common.s3_objects import ObjectInfo, S3Objects

log = logs.get_logger(__name__)

# Listing is dear, and what it finds is days old.
SWEEP_SECONDS = 3600.0
# No attempt lives longer than a day; whoever reads what was replaced a moment ago still finds it.
KEEP = timedelta(days=2)


class TranscriptSweeper:
    """One sweep at a time over all replicas; every step can be killed and repeated."""

    def __init__(self, objects: S3Objects, videos: RedisVideoStore, lease: Lease, clock: Clock) -> None:
        self._objects, self._videos, self._lease, self._clock = objects, videos, lease, clock

    async def run(self) -> None:
        """For ever."""
        await periodically("sweep of transcripts", self.sweep, self._lease, SWEEP_SECONDS, 0)

    async def sweep(self) -> int:
        """One pass; how many objects went."""
        before = self._clock.now() - KEEP
        removed = 0
        async for page in self._objects.pages(TRANSCRIPTS):
            removed += await self._remove_orphans([info for info in page if info.modified < before])
        if removed:
            log.info("swept transcripts", objects=removed)
        return removed

    async def _remove_orphans(self, found: list[ObjectInfo]) -> int:
        ids = list(dict.fromkeys(_video_id(info.key) for info in found))
        videos = {video.video_id: video for video in await self._videos.records(ids)}
        removed = 0
        for info in found:
            video = videos.get(_video_id(info.key))
            # Every video has left a record, if only a tombstone: where there is none the index is to blame.
            if video is not None and not _belongs(info.key, video):
                await self._objects.delete(info.key)
                removed += 1
        return removed


def _video_id(key: str) -> str:
    return key.removeprefix(TRANSCRIPTS).partition("/")[0]


def _belongs(key: str, video: media_pb2.Video) -> bool:
    named = video.transcript.result.key
    # While one is made its objects may have old names: the same transcript as once before. What is deleted names none;
    # until it is, its deletion removes all of them.
    return video.transcript.state in UNDER_WAY or key in {captions_key(named), document_key(named)}
