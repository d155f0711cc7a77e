"""Removes what crashed uploads left: multipart uploads, objects that no record names, and records without one."""

from __future__ import annotations

from services.common import logs, tasks
from services.common.caller import caller_for, set_caller
from services.common.catalog_client import CatalogClient, if_found
from services.common.clock import Clock
from services.common.lease import Lease
from services.common.object_keys import VIDEOS, record_key
from services.common.periodic import failures_logged, periodically
from services.common.s3_objects import S3Objects
from services.upload.open_uploads import OpenUpload, OpenUploads

log = logs.get_logger(__name__)

# What an outage of the store leaves is as much as was sent meanwhile; each is half a dozen requests of it.
_AT_ONCE = 8


class Sweeper:
    """Runs on every replica; the lease lets one at a time work."""

    def __init__(
        self,
        *,
        objects: S3Objects,
        catalog: CatalogClient,
        open_uploads: OpenUploads,
        lease: Lease,
        clock: Clock,
        orphan_seconds: float,
    ) -> None:
        self._objects, self._catalog, self._open_uploads = objects, catalog, open_uploads
        self._lease, self._clock, self._orphan_seconds = lease, clock, orphan_seconds

    async def run(self, interval_seconds: float) -> None:
        """Sweep for ever."""
        await periodically("sweep of uploads", self.sweep, self._lease, interval_seconds)

    async def sweep(self) -> None:
        """One look, each upload on its own. Safe to repeat and to kill: an entry goes last.

        No upload that still wakes up is recorded any more once its entry is taken, so what is no video now stays none.
        """
        await tasks.for_each(await self._open_uploads.take_expired(), self._see_to, _AT_ONCE)
        await self._abort_unknown()

    async def _see_to(self, upload: OpenUpload) -> None:
        with failures_logged("sweep of an upload", video_id=upload.video_id):
            await self._remove(upload)

    async def _remove(self, upload: OpenUpload) -> None:
        set_caller(caller_for(upload.owner))
        await self._objects.abort_multiparts(upload.key)
        if await if_found(self._catalog.get(video_id=upload.video_id)) is None:
            if await self._objects.head(record_key(upload.video_id)) is None:
                await self._objects.delete(upload.key)
            elif await if_found(self._catalog.look_up(upload.video_id)) is None:
                # Redis came back older than the bucket: the video was acknowledged, and a rebuild makes it known again.
                log.error("the index does not have a video that S3 records", video_id=upload.video_id)
        elif await self._objects.head(upload.key) is None:
            # Recorded by a process that woke up behind a sweep, and could not take it back.
            await if_found(self._catalog.delete(upload.video_id))
        await self._open_uploads.end(upload)
        log.info("swept an upload that its process left", video_id=upload.video_id)

    async def _abort_unknown(self) -> None:
        """Multipart uploads that no entry speaks for: begun before Redis was emptied."""
        known = await self._open_uploads.keys()
        async for multipart in self._objects.list_multiparts(VIDEOS):
            age = self._clock.seconds() - multipart.initiated.timestamp()
            if multipart.key not in known and age > self._orphan_seconds:
                await self._objects.abort_multipart(multipart.key, multipart.upload_id)
                log.info("aborted a multipart upload that nobody knows", key=multipart.key)
