"""Makes the index again from the records in S3: `python -m services.catalog rebuild`."""

from __future__ import annotations

import asyncio
import dataclasses
import sys
from dataclasses import dataclass
from functools import partial

from reelway.v1 import media_pb2

from services.catalog.record_store import RecordStore
from services.catalog.redis_video_store import RedisVideoStore
from services.common import logs, tasks
from services.common.channel import CALL_SECONDS
from services.common.error_catalog import ErrorReason
from services.common.errors import ReelwayError
from services.common.lease import Lease, LeaseLost
from services.common.object_keys import VIDEOS
from services.common.periodic import periodically
from services.common.s3_objects import S3Objects
from services.common.video_state import GONE

log = logs.get_logger(__name__)

_READS_AT_ONCE = 32
_LOOK_SECONDS = 2.0
# Numbers skipped above the highest: records that were on their way when the index was lost may have them.
_SPARE_NUMBERS = 1000
_BEHIND_ALL = chr(sys.maxunicode)
LEASE_SECONDS = 60.0
"""After so long another replica takes over from one that died; renewed all the while."""


@dataclass
class Rebuilt:
    """What a rebuild found."""

    videos: int = 0
    """Living videos that are served again."""
    tombstones: int = 0
    """Deleted ones, kept so that their numbers are not given twice."""
    unreadable: int = 0
    """Objects under `catalog/` that are no records."""
    without_bytes: int = 0
    """Finished videos whose object is gone: indexed no more."""


async def rebuild(
    records: RecordStore,
    objects: S3Objects,
    store: RedisVideoStore,
    lease: Lease,
    writers_seconds: float = CALL_SECONDS,
) -> Rebuilt:
    """Empty the index and fill it from S3. Safe to repeat, and to kill: the marker comes last.

    Until it ends the catalog answers INDEX_MISSING, so that nothing is created beside it. `lease` is taken, renewed
    however long a step lasts, and left to the caller; SERVICE_UNAVAILABLE where it is somebody else's. A process that
    slept past it leaves the index alone, which another one has made since or is making, and no older record in S3.
    """
    try:
        return await lease.hold(lambda: _rebuild(records, objects, store, lease, writers_seconds))
    except LeaseLost as error:
        why = "the lease of the rebuild ran out, or is somebody else's"
        raise ReelwayError(ErrorReason.SERVICE_UNAVAILABLE, why) from error


async def _rebuild(
    records: RecordStore, objects: S3Objects, store: RedisVideoStore, lease: Lease, writers_seconds: float
) -> Rebuilt:
    was_open = await store.close_index(lease)
    # Where it was closed already, by a rebuild that broke off or a call whose answer was lost, there may be changes
    # that only Redis has. Asked once it is closed, so that none comes behind the answer.
    unsaved = await anext(store.unsaved_before(float("inf")), None)
    if was_open or unsaved:
        # Changes that were committed before get the time of a call to reach S3; what is left then is saved here.
        await asyncio.sleep(writers_seconds)
        async for video_id, _ in store.unsaved_before(float("inf")):
            await tasks.undisturbed(_save(records, store, video_id))
    await store.clear(lease)
    stored = _Stored(objects)
    found, last_number, indexed = Rebuilt(), 0, set[int]()
    read = tasks.at_most(_READS_AT_ONCE, records.load_listed)
    async for page in records.listed():
        videos: list[media_pb2.Video] = []
        for video in await asyncio.gather(*map(read, page)):
            if video is None:
                found.unreadable += 1
                continue
            last_number = max(last_number, video.number)
            if video.state in GONE:
                found.tombstones += 1
            elif video.object_key and not await stored.has(video.object_key):
                log.error("record without its object", video_id=video.video_id, key=video.object_key)
                found.without_bytes += 1
                continue
            else:
                found.videos += 1
            videos.append(video)
        indexed.update(video.number for video in videos)
        await store.load(videos, lease)
    counter = last_number + _SPARE_NUMBERS if last_number else 0
    # A Redis that came back, or took over, may lack what was loaded last, and nobody would ever notice.
    if not await store.finish_load(counter, len(indexed), lease):
        raise ReelwayError(ErrorReason.STORE_UNAVAILABLE, "Redis lost a part of the index while it was made")
    return found


class _Stored:
    """Whether objects of videos are there, asked in the order of the records, which is that of the objects' keys.

    One listing instead of a HEAD a video, a page of it at a time: whole, it would fill a pod before the index is made.
    """

    def __init__(self, objects: S3Objects) -> None:
        self._objects, self._listing, self._listed = objects, objects.list(VIDEOS), ""

    async def has(self, key: str) -> bool:
        while self._listed < key:
            info = await anext(self._listing, None)
            self._listed = info.key if info is not None else _BEHIND_ALL
        # A listing may be late, or in another order.
        return self._listed == key or await self._objects.head(key) is not None


async def _save(records: RecordStore, store: RedisVideoStore, video_id: str) -> None:
    """Write the record to S3, which knows no lease; again where it was changed meanwhile, after another rebuild."""
    saved = None
    while (video := await store.get_unguarded(video_id)) is not None and video != saved:
        await records.save(video)
        saved = video


async def keep_index(records: RecordStore, objects: S3Objects, store: RedisVideoStore, lease: Lease) -> None:
    """For ever: where the index is missing (a new system, or an emptied Redis), one replica rebuilds it."""
    look = partial(_rebuild_if_missing, records, objects, store, lease)
    await periodically("look after the index", look, None, _LOOK_SECONDS, 0)


async def _rebuild_if_missing(records: RecordStore, objects: S3Objects, store: RedisVideoStore, lease: Lease) -> None:
    if await store.exists() or not await lease.take():
        return
    try:
        # Whoever held the lease before may have done it.
        if not await store.exists():
            log.warning("the index is missing, rebuilding it")
            found = await rebuild(records, objects, store, lease)
            log.info("index rebuilt", **dataclasses.asdict(found))
    finally:
        await lease.release()
