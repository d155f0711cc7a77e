"""Finishes what was left half done: records not saved to S3, deletions not carried through, promised uploads."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any

from services.catalog.catalog import Catalog
from services.catalog.memberships import DELETING, SIGNED
from services.catalog.processing import Processing
from services.catalog.redis_video_store import RedisVideoStore
from services.common import logs, tasks
from services.common.clock import Clock
from services.common.lease import Lease
from services.common.periodic import failures_logged, periodically

log = logs.get_logger(__name__)

# Leftovers that are worked on side by side: one at a time, the backlog of an outage of the store would take hours.
_AT_ONCE = 8
# Tombstones, and signed uploads, that one sweep takes up.
_DUE = 1000


class Sweeper:
    """Runs on every replica; the lease lets one at a time work."""

    def __init__(
        self,
        catalog: Catalog,
        processing: Processing,
        *,
        store: RedisVideoStore,
        lease: Lease,
        clock: Clock,
        grace_seconds: float,
        signed_seconds: float,
    ) -> None:
        self._catalog, self._processing, self._store = catalog, processing, store
        self._lease, self._clock, self._grace, self._signed = lease, clock, grace_seconds, signed_seconds

    async def run(self, interval_seconds: float) -> None:
        """Sweep for ever."""
        await periodically("sweep of videos", self.sweep, self._lease, interval_seconds)

    async def sweep(self) -> None:
        """One look; each leftover on its own, so that a bad one does not keep the others waiting."""
        left_before = self._clock.seconds() - self._grace
        await tasks.for_each_of(self._store.unsaved_before(left_before), self._save, _AT_ONCE)
        await self._work_on(DELETING, left_before, self._catalog.finish_delete)
        await self._work_on(SIGNED, self._clock.seconds() - self._signed, self._processing.expire)

    async def _save(self, unsaved: tuple[str, str]) -> None:
        video_id, mark = unsaved
        with failures_logged("sweep of a video", video_id=video_id):
            video = await self._store.get(video_id)
            if video is not None:
                log.info("saving a record that its writer left", video_id=video_id)
                await self._catalog.save(video, mark)

    async def _work_on(self, key: str, before: float, work: Callable[[str], Coroutine[Any, Any, None]]) -> None:
        async def see_to(video_id: str) -> None:
            with failures_logged("sweep of a video", video_id=video_id):
                # To the end of what is due first: else those that fail again and again would be all that a look sees.
                await self._store.put_off(key, video_id, before)
                await work(video_id)

        await tasks.for_each(await self._store.due(key, before, _DUE), see_to, _AT_ONCE)
