"""Looks after journals: expires idle ones, removes what crashed appends left, finds what Redis lost."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta

from reelway.v1 import media_pb2

from services.common import entity_tags, logs, tasks
from services.common.caller import caller_for, set_caller
from services.common.catalog_client import CatalogClient, if_found
from services.common.clock import Clock
from services.common.error_catalog import ErrorReason
from services.common.errors import ReelwayError
from services.common.lease import Lease
from services.common.object_keys import JOINED, JOURNALS, joined_prefix
from services.common.periodic import failures_logged, periodically
from services.common.s3_objects import ObjectInfo, S3Objects
from services.common.video_state import GONE, is_one_object
from services.upload.journal import Journal, JournalState
from services.upload.journals import Journals, every_extent
from services.upload.redis_journal_store import RedisJournalStore
from services.upload.seal import Sealing

log = logs.get_logger(__name__)

# Each costs a dozen requests of the store: one by one, as many as may be open would take a day.
_AT_ONCE = 8


class JournalSweeper:
    """Runs on every replica; the leases let one at a time work."""

    def __init__(
        self,
        *,
        journals: Journals,
        sealing: Sealing,
        store: RedisJournalStore,
        objects: S3Objects,
        catalog: CatalogClient,
        idle_lease: Lease,
        orphan_lease: Lease,
        clock: Clock,
        idle_seconds: float,
        orphan_seconds: float,
    ) -> None:
        self._journals, self._sealing, self._store = journals, sealing, store
        self._objects, self._catalog, self._clock = objects, catalog, clock
        self._idle_lease, self._orphan_lease = idle_lease, orphan_lease
        self._idle_seconds, self._orphan_seconds = idle_seconds, orphan_seconds

    async def run_idle(self, interval_seconds: float) -> None:
        """Expire for ever."""
        await periodically("expiry of idle uploads", self.expire_idle, self._idle_lease, interval_seconds)

    async def run_orphans(self, interval_seconds: float) -> None:
        """Look through the chunks for ever; the first time soon, for Redis may have been emptied."""
        soon = min(interval_seconds, 10.0)
        await periodically("sweep of chunks", self.sweep_orphans, self._orphan_lease, interval_seconds, soon)

    async def expire_idle(self) -> None:
        """Seal what was not appended to for too long, if it is a video; give up what is none."""
        before = self._clock.seconds() - self._idle_seconds

        async def expire(idle: tuple[str, str]) -> None:
            video_id, owner = idle
            set_caller(caller_for(owner))
            with failures_logged("expiry of an upload", video_id=video_id):
                # To the end of what is due first: else those that fail again and again would be all that a look sees.
                await self._store.put_off_expiry(video_id, owner, before)
                await self._expire(video_id, owner, before)

        await tasks.for_each(await self._store.idle_since(before), expire, _AT_ONCE)

    async def _expire(self, video_id: str, owner: str, before: float) -> None:
        try:
            journal = await self._journals.get(video_id)
        except ReelwayError as error:
            if error.reason not in {ErrorReason.VIDEO_NOT_FOUND, ErrorReason.UPLOAD_SEALED}:
                raise
            # Its process died before it was recorded, or it was deleted, or finished long ago.
            await self._forget(video_id, owner)
            return
        if journal.state is not JournalState.OPEN:
            await self._store.leave(video_id, owner)
            return
        if not await self._store.is_idle(video_id, owner, before):
            return  # A chunk is on its way, which began since all were listed.
        # Without a chunk it may be one whose creation failed before it was recorded.
        recorded = journal.size > 0 or await if_found(self._catalog.look_up(video_id)) is not None
        if recorded and journal.modified > before:
            await self._store.looked_at(video_id, owner, journal.modified)
            return
        try:
            # What was appended since then makes it idle no more.
            video = await self._sealing.seal(video_id, (), size=journal.size)
            if video.state == media_pb2.VIDEO_STATE_READY:
                log.info("sealed an idle upload", video_id=video_id, size=journal.size)
            return
        except ReelwayError as error:
            if error.reason not in {ErrorReason.EMPTY_FILE, ErrorReason.NOT_A_VIDEO, ErrorReason.VIDEO_NOT_FOUND}:
                raise
        # What was appended since that judgement may make a video of it.
        if await self._store.step(video_id, JournalState.ABORTED, size=journal.size):
            log.info("gave an idle upload up", video_id=video_id, size=journal.size)
            await self._journals.remove(journal)

    async def _forget(self, video_id: str, owner: str) -> None:
        """What is left of an upload without a journal, or with one that was given up half way."""
        journal = await self._store.get(video_id)
        if journal is not None and journal.state is JournalState.ABORTED:
            await self._journals.remove(journal)
        else:
            await self._store.leave(video_id, owner)

    async def sweep_orphans(self) -> None:
        """Remove chunks that are part of nothing, once they are older than any live append; find what Redis lost."""
        # From their records first: one without a chunk is found nowhere else, and it would never be idle.
        with failures_logged("look for lost uploads"):
            await tasks.for_each_of(self._catalog.growing(), self._find_lost, _AT_ONCE)
        for folders, sweep in ((JOURNALS, self._sweep_upload), (JOINED, self._sweep_joined)):
            async for video_id, found in self._objects.folders(folders):
                with failures_logged("sweep of what an upload left", video_id=video_id):
                    await sweep(video_id, found)
        await self._objects.abort_multiparts(JOURNALS, self._clock.now() - timedelta(seconds=self._orphan_seconds))

    async def _find_lost(self, video_id: str) -> None:
        with failures_logged("look for a lost upload", video_id=video_id):
            await self._find(video_id)

    async def _sweep_upload(self, video_id: str, found: Sequence[ObjectInfo]) -> None:
        # Listed before the journal is read: what is committed in between is in the journal, and not in the list.
        before = self._clock.seconds() - self._orphan_seconds
        old = [info for info in found if info.modified.timestamp() < before]
        journal = await self._find(video_id)
        if journal is not None and journal.state is JournalState.SEALED:
            await self._store.await_compaction(video_id, self._clock.seconds())
        if journal is not None and journal.state in {JournalState.OPEN, JournalState.SEALED}:
            named = {extent.key async for extent in every_extent(self._store, journal)} if old else set()
            old = [info for info in old if info.key not in named]
        await self._objects.delete_each([info.key for info in old])
        if old:
            log.info("removed chunks that are part of nothing", video_id=video_id, count=len(old))

    async def _sweep_joined(self, video_id: str, found: Sequence[ObjectInfo]) -> None:
        """Remove what clips were joined to before more was appended, or what has become an object."""
        before = self._clock.seconds() - self._orphan_seconds
        journal = await self._find(video_id)
        current = f"{joined_prefix(video_id)}{entity_tags.unquoted(journal.etag)}." if journal is not None else ""
        for info in found:
            if info.modified.timestamp() < before and not (current and info.key.startswith(current)):
                await self._objects.delete(info.key)

    async def _find(self, video_id: str) -> Journal | None:
        """The journal; brought back where Redis lost it, and the video's record says that there was one.

        VIDEO_NOT_FOUND where there is no record: every video has left one, if only a tombstone, so it is to blame.
        """
        journal = await self._store.get(video_id)
        if journal is not None:
            return journal
        video = await self._catalog.look_up(video_id)
        if video.state in GONE or is_one_object(video):
            return None
        set_caller(caller_for(video.owner))
        return await self._journals.get(video_id)
