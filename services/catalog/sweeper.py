"""Finishes what was left half done: records not saved to S3, deletions not carried through, promised uploads."""

from __future__ import annotations

from services.catalog.catalog import Catalog
from services.catalog.library_store import LibraryStore
from services.catalog.memberships import DELETING, SIGNED
from services.catalog.processing import Processing
from services.catalog.video_store import VideoStore
from services.common import logs
from services.common.clock import Clock
from services.common.lease import Lease
from services.common.periodic import failures_logged, periodically

log = logs.get_logger(__name__)


class Sweeper:
    """Runs on every replica; the lease lets one at a time work."""

    def __init__(
        self,
        catalog: Catalog,
        processing: Processing,
        *,
        store: VideoStore,
        lists: LibraryStore,
        lease: Lease,
        clock: Clock,
        grace_seconds: float,
        signed_seconds: float,
    ) -> None:
        self._catalog, self._processing, self._store, self._lists = catalog, processing, store, lists
        self._lease, self._clock, self._grace, self._signed = lease, clock, grace_seconds, signed_seconds

    async def run(self, interval_seconds: float) -> None:
        """Sweep for ever."""
        await periodically("sweep of videos", self.sweep, self._lease, interval_seconds)

    async def sweep(self) -> None:
        """One look; each leftover on its own, so that a bad one does not keep the others waiting.

        Each goes behind the others of its list first: so many that fail would be all that a look sees.
        """
        left_before = self._clock.seconds() - self._grace
        async for video_id, mark in self._store.unsaved_before(left_before):
            with failures_logged("sweep of a video", video_id=video_id):
                video = await self._store.get(video_id)
                if video is not None:
                    log.info("saving a record that its writer left", video_id=video_id)
                    await self._catalog.save(video, mark)
        for video_id in await self._store.deleting(left_before):
            with failures_logged("sweep of a video", video_id=video_id):
                await self._lists.put_off(DELETING, video_id, self._clock.seconds())
                await self._catalog.finish_delete(video_id)
        signed_before = self._clock.seconds() - self._signed
        for video_id in await self._lists.signed_before(signed_before):
            with failures_logged("sweep of a video", video_id=video_id):
                await self._lists.put_off(SIGNED, video_id, signed_before)
                await self._processing.expire(video_id)
