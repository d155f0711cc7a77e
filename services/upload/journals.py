"""The uploads that grow, as the calling user may use them: create, look at, give up, locate their bytes."""

from __future__ import annotations

import dataclasses
import uuid
from collections.abc import AsyncIterator

from reelway.v1 import catalog_pb2, media_pb2

from services.common import entity_tags, fault_points, logs, tasks
from services.common.caller import SYSTEM_USER, current_caller, may_change
from services.common.catalog_client import CatalogClient, if_found
from services.common.clock import Clock
from services.common.containers import KINDS, SNIFF_BYTES
from services.common.error_catalog import ErrorReason
from services.common.errors import ReelwayError, invalid_field
from services.common.extents import Extent
from services.common.object_keys import object_key
from services.common.s3_bytes import S3Bytes
from services.common.s3_objects import S3Objects
from services.common.video_state import is_one_object
from services.upload.file_name import plain_name
from services.upload.journal import Journal, JournalState, Located
from services.upload.redis_journal_store import RedisJournalStore
from services.upload.restore import SNIFF_EXTENTS, restore, sniff_extents

log = logs.get_logger(__name__)

_MOST_EXTENTS = 4096
"""In one answer: some 400 KiB."""
_FIRST_LOOK_SECONDS = 60.0
"""After so long the sweeper looks whether an upload that was entered was created: one that was not holds a place."""


async def every_extent(store: RedisJournalStore, journal: Journal) -> AsyncIterator[Extent]:
    """All that hold this version, in order; VIDEO_CHANGED where the store has it no more."""
    offset = 0
    while offset < journal.size:
        located = await store.locate(journal.video_id, offset, journal.size - offset, journal.etag, _MOST_EXTENTS)
        if located is None or not located.extents:
            raise ReelwayError(ErrorReason.VIDEO_CHANGED)
        for extent in located.extents:
            yield extent
        offset = located.extents[-1].end


class Journals:
    """Finds journals, wherever they are: in Redis, or, where that lost them, in S3."""

    def __init__(
        self,
        *,
        store: RedisJournalStore,
        objects: S3Objects,
        data: S3Bytes,
        catalog: CatalogClient,
        clock: Clock,
        open_per_owner: int,
        open_of_nobody: int,
        idle_seconds: float,
    ) -> None:
        self._store, self._objects, self._data, self._catalog, self._clock = store, objects, data, catalog, clock
        self._open_per_owner, self._open_of_nobody = open_per_owner, open_of_nobody
        self._restoring = tasks.SingleFlight[str, Journal | None]()
        self._already_idle = idle_seconds - min(_FIRST_LOOK_SECONDS, idle_seconds)

    async def create(self, title: str, description: str, file_name: str) -> media_pb2.Video:
        """A new open upload of the caller; errors as UploadService.CreateUpload says."""
        owner, video_id = current_caller().user, str(uuid.uuid4())
        most = self._open_per_owner if owner else self._open_of_nobody
        # Entered first: whatever a crash or a failure leaves of the rest, the sweeper finds it from here.
        if not await self._store.enter(video_id, owner, self._clock.seconds() - self._already_idle, most):
            raise ReelwayError(ErrorReason.TOO_MANY_UPLOADS, metadata={"most": str(most)})
        new = media_pb2.Video(
            video_id=video_id,
            state=media_pb2.VIDEO_STATE_UPLOADING,
            title=title,
            description=description,
            file_name=plain_name(file_name),
        )
        # Before its record: who finds that, and deletes the video at once, ends this very journal.
        await self._store.create(Journal(video_id, owner, JournalState.OPEN, modified=self._clock.seconds()))
        try:
            video = await self._catalog.create(new)
        except ReelwayError as error:
            if error.reason is ErrorReason.INVALID_REQUEST:
                await self._store.drop(video_id)
                await self._store.leave(video_id, owner)
            raise
        fault_points.reach("create.recorded")
        return video

    async def get(self, video_id: str) -> Journal:
        """The journal, made again where Redis lost it; VIDEO_NOT_FOUND where there is none to be had.

        Whether the user may see the video is for the caller of this to judge.
        """
        journal = await self._store.get(video_id)
        if journal is None:
            video = await self._catalog.look_up(video_id)
            if video.state == media_pb2.VIDEO_STATE_UPLOADING:
                # Before its journal is there: afterwards nobody comes here again. However many the owner has: this one
                # was open already. The sweeper's next look finds when it was appended to.
                await self._store.enter(video_id, video.owner, self._clock.seconds() - self._already_idle, 2**53)
            # With a hundred thousand chunks it takes longer than a call may: a second call must not begin it again.
            journal = await self._restoring.run(video_id, lambda: self._restore(video))
            if journal is None:
                if not is_one_object(video) and not await self._name_object(video):
                    raise ReelwayError(ErrorReason.VIDEO_NOT_FOUND)
                # A video that was finished takes no chunks, however it was made; who may not see it learns nothing.
                if current_caller().user != SYSTEM_USER:
                    await self._catalog.get(video_id=video_id)
                raise ReelwayError(ErrorReason.UPLOAD_SEALED)
        if journal.state is JournalState.ABORTED:
            raise ReelwayError(ErrorReason.VIDEO_NOT_FOUND)
        return journal

    async def _restore(self, video: media_pb2.Video) -> Journal | None:
        journal = await restore(self._store, self._objects, self._data, video)
        if journal is not None and journal.state is JournalState.SEALED:
            # Where this is not reached, the sweep of chunks does it.
            await self._store.await_compaction(video.video_id, self._clock.seconds())
        return journal

    async def _name_object(self, video: media_pb2.Video) -> bool:
        """Whether what became of a sealed upload's chunks, which are gone, is there; the record names it again.

        An older record can come to S3 behind the one that named it, and be found by a rebuild of the index.
        """
        if video.state != media_pb2.VIDEO_STATE_READY:
            return False
        for container, kind in KINDS.items():
            info = await self._objects.head(object_key(video.video_id, container))
            if info is None:
                continue
            is_joined = info.size != video.size_bytes
            await self._catalog.attach_object(
                catalog_pb2.AttachObjectRequest(
                    video_id=video.video_id,
                    object_key=info.key,
                    size_bytes=info.size,
                    etag=entity_tags.of_joined(video.etag, kind.extension, info.etag) if is_joined else video.etag,
                    container=container,
                )
            )
            log.warning("named the object of a sealed video again", video_id=video.video_id, key=info.key)
            return True
        log.error("chunks of a sealed video are missing", video_id=video.video_id)
        return False

    async def get_visible(self, video_id: str) -> Journal:
        """As `get`, if the caller may see the video; else VIDEO_NOT_FOUND."""
        journal = await self.get(video_id)
        # The journal of a finished video is there for a while after the video was deleted.
        if journal.state is not JournalState.OPEN or not may_change(journal.owner, current_caller().user):
            await self._catalog.get(video_id=video_id)
        return journal

    async def get_for_change(self, video_id: str) -> Journal:
        """As `get`, for its owner: NOT_THE_OWNER for others, or VIDEO_NOT_FOUND where they may not even see it."""
        journal = await self.get_visible(video_id)
        if not may_change(journal.owner, current_caller().user):
            raise ReelwayError(ErrorReason.NOT_THE_OWNER)
        return journal

    async def container(self, journal: Journal) -> media_pb2.Container.ValueType:
        """What the upload is; looked at again where the first chunk alone was too short to tell."""
        if journal.container or not journal.size:
            return journal.container
        located = await self._store.locate(journal.video_id, 0, SNIFF_BYTES, "", SNIFF_EXTENTS)
        if located is None or len(located.extents) < 2:
            return journal.container
        container = await sniff_extents(self._data, located.extents)
        if container:
            await self._store.set_container(journal.video_id, container)
        return container

    async def locate(self, video_id: str, offset: int, length: int, etag: str) -> Located:
        """Where bytes of a version are; errors as UploadService.LocateExtents says."""
        for name, value in (("offset_bytes", offset), ("length_bytes", length)):
            if value < 0:
                raise invalid_field(name, "must not be negative")
        located = await self._store.locate(video_id, offset, length, etag, _MOST_EXTENTS)
        if located is None:
            await self.get(video_id)
            located = await self._store.locate(video_id, offset, length, etag, _MOST_EXTENTS)
        if located is None or located.journal.state is JournalState.ABORTED:
            raise ReelwayError(ErrorReason.VIDEO_NOT_FOUND)
        return located

    async def abort(self, video_id: str) -> None:
        """Give an open upload up; errors as UploadService.Abort says."""
        journal = await self._store.get(video_id)
        broke_off = journal is not None and journal.state is JournalState.ABORTED
        if journal is None or not (broke_off and may_change(journal.owner, current_caller().user)):
            journal = await self.get_for_change(video_id)
            # The sweeper's next look finishes what breaks off from here on.
            await self._store.looked_at(video_id, journal.owner, 0)
            if not await self._store.step(video_id, JournalState.ABORTED):
                raise ReelwayError(ErrorReason.UPLOAD_SEALED)
            fault_points.reach("abort.stopped")
        await self.remove(journal)

    async def remove(self, journal: Journal) -> None:
        """Delete the video of an aborted upload with all its chunks, in the system's name. Safe to repeat."""
        system = dataclasses.replace(current_caller(), user=SYSTEM_USER)
        await if_found(self._catalog.delete(journal.video_id, system))
        await self._store.drop(journal.video_id)
        # Last: the sweeper finds from here what a crash or a failure leaves.
        await self._store.leave(journal.video_id, journal.owner)
