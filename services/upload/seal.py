"""Sealing: no more appends, final bytes, a READY record. The chunks become one object behind it (compaction.py)."""

from __future__ import annotations

import asyncio
from collections.abc import Collection

from reelway.v1 import catalog_pb2, media_pb2

from services.common import fault_points
from services.common.caller import current_caller, may_change
from services.common.catalog_client import CatalogClient
from services.common.clock import Clock
from services.common.containers import KINDS
from services.common.error_catalog import ErrorReason
from services.common.errors import ReelwayError
from services.upload.journal import Journal, JournalState
from services.upload.journals import Journals
from services.upload.redis_journal_store import RedisJournalStore


class Sealing:
    """Seals uploads; `wake` is set whenever there is something new to compact."""

    def __init__(self, journals: Journals, store: RedisJournalStore, catalog: CatalogClient, clock: Clock) -> None:
        self._journals, self._store, self._catalog, self._clock = journals, store, catalog, clock
        self.wake = asyncio.Event()

    async def seal(
        self, video_id: str, accepted: Collection[media_pb2.Container.ValueType], size: int | None = None
    ) -> media_pb2.Video:
        """The sealed video; safe to repeat. Errors as UploadService.Seal says.

        One that is not of this size (None: any) stays open, and is answered as it is.
        """
        try:
            journal = await self._journals.get_for_change(video_id)
        except ReelwayError as error:
            if error.reason is not ErrorReason.UPLOAD_SEALED:
                raise
            video = await self._catalog.get(video_id=video_id)
            if not may_change(video.owner, current_caller().user):
                raise ReelwayError(ErrorReason.NOT_THE_OWNER) from None
            return video
        if journal.state is JournalState.COMPACTED:
            return await self._catalog.get(video_id=video_id)
        if not journal.size:
            raise ReelwayError(ErrorReason.EMPTY_FILE, "Nothing was uploaded")
        container = await self._journals.container(journal)
        if container not in KINDS or (accepted and container not in accepted):
            raise ReelwayError(ErrorReason.NOT_A_VIDEO)
        # First among those to be compacted, then frozen: a crash in between costs a look of the compactor.
        await self._store.await_compaction(video_id, self._clock.seconds())
        if not await self._store.step(video_id, JournalState.SEALED, size=size):
            # It was compacted since we looked, or has grown; or was given up, which its record need not say yet.
            await self._journals.get(video_id)
            return await self._catalog.get(video_id=video_id)
        fault_points.reach("seal.frozen")
        # Read again: more may have been appended between the look and the freezing.
        video = await self.record(await self._journals.get(video_id))
        fault_points.reach("seal.recorded")
        # A compactor that looked just before it was sealed may have struck out the entry that was made above.
        await self._store.await_compaction(video_id, self._clock.seconds())
        self.wake.set()
        return video

    async def record(self, journal: Journal) -> media_pb2.Video:
        """Write what is final into the record of a sealed upload, in its owner's name. Safe to repeat."""
        request = catalog_pb2.SealVideoRequest(
            video_id=journal.video_id,
            size_bytes=journal.size,
            etag=journal.etag,
            container=journal.container,
        )
        request.modify_time.FromMilliseconds(int(journal.modified * 1000))
        video = await self._catalog.seal(request)
        await self._store.leave(journal.video_id, journal.owner)
        return video
