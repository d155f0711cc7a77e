"""Removes what time or a crash leaves behind: old records, left-over outputs, unfinished uploads."""

from __future__ import annotations

import asyncio
from datetime import timedelta

from services.common import logs, tasks
from services.common.clock import Clock
from services.common.lease import Lease
from services.common.periodic import failures_logged, periodically
from services.ffmpeg.outputs import Outputs
from services.ffmpeg.redis_job_store import RedisJobStore

log = logs.get_logger(__name__)

# Each job is some requests of the store, and as many may be cancelled at once as wait.
_AT_ONCE = 8
# Listing the bucket is dear, and what it finds is days old: done far less often than the rest.
_LISTING_SECONDS = 3600.0
# No attempt lives longer than a day: an upload that old has nobody any more, whatever Redis knows of it.
UPLOAD_MAX_AGE = timedelta(days=2)


class Sweeper:
    """One sweep of the store at a time over all fronts (`lease`); every step can be killed and repeated.

    Outputs stay `keep_outputs` after they were written: the record's time, and the life of a URL that was signed
    on its last day.
    """

    def __init__(
        self, store: RedisJobStore, outputs: Outputs, lease: Lease, clock: Clock, keep_outputs: timedelta
    ) -> None:
        self._store, self._outputs, self._lease, self._clock = store, outputs, lease, clock
        self._keep_outputs = keep_outputs
        self._next_listing = 0.0

    async def run(self, every_seconds: float) -> None:
        """Sweep for ever."""
        await asyncio.gather(
            # Without the lease, which a full Redis refuses: forgetting makes room in it.
            periodically("sweep of records", self.forget, None, every_seconds, 0),
            periodically("sweep of outputs", self.sweep, self._lease, every_seconds, 0),
        )

    async def forget(self) -> None:
        """Remove the records of jobs that were kept long enough; any number of fronts may do so at once."""
        records = 0
        while forgotten := await self._store.forget_due():
            records += forgotten
        if records:
            log.info("forgot jobs", records=records)

    async def sweep(self) -> None:
        """One pass over what is left in the object store."""
        await tasks.for_each_of(self._store.debris(), self._remove, _AT_ONCE)
        if self._clock.seconds() >= self._next_listing:
            await self._sweep_bucket()
            self._next_listing = self._clock.seconds() + _LISTING_SECONDS

    async def _remove(self, job_id: str) -> None:
        # Each on its own, so that a bad one does not keep the others waiting.
        with failures_logged("sweep of a job", job=job_id):
            # Aborted first: from then on no stale attempt can complete anything that we delete here.
            await self._outputs.remove(job_id, await self._store.uploads(job_id))
            await self._store.debris_removed(job_id)
            log.info("swept a job", job=job_id)

    async def _sweep_bucket(self) -> None:
        now = self._clock.now()
        await self._outputs.ensure_expiry(self._keep_outputs.days + 1)
        uploads = await self._outputs.abort_older(now - UPLOAD_MAX_AGE)
        outputs = await self._outputs.remove_older(now - self._keep_outputs)
        if uploads or outputs:
            log.info("swept the bucket", uploads=uploads, outputs=outputs)
