"""Makes one object of a sealed upload's chunks, in the background.

Whoever holds the upload's lease does it, and it can be killed anywhere: the plan follows from the chunks, the
multipart upload's id is in the journal, and S3 knows which parts are there. Two at work at once, after a lease ran
out, write the same bytes. Steps, each safe to repeat:

    parts -> the object -> the record names it -> the journal says so -> the chunks go -> nothing left to do

Until the record names the object readers read the chunks; who is in the middle of a chunk that goes asks again.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from itertools import starmap

from reelway.v1 import catalog_pb2, media_pb2, transcript_pb2

from services.common import fault_points, logs, tasks
from services.common.caller import caller_for, set_caller
from services.common.catalog_client import CatalogClient, if_found
from services.common.clip_joiner import ClipJoiner
from services.common.clock import Clock
from services.common.containers import KINDS
from services.common.error_catalog import ErrorReason
from services.common.errors import ReelwayError
from services.common.extents import Extent, read_slices
from services.common.joined import Joined
from services.common.lease import Lease, LeaseLost
from services.common.object_keys import joined_prefix, journal_prefix, object_key, object_keys
from services.common.periodic import failures_logged
from services.common.s3_bytes import S3Bytes
from services.common.s3_objects import S3Objects
from services.upload.compaction_plan import PartPlan, plan
from services.upload.journal import Journal, JournalState
from services.upload.journals import every_extent
from services.upload.redis_journal_store import RedisJournalStore
from services.upload.seal import Sealing

log = logs.get_logger(__name__)

# Uploads that a process compacts side by side: a long one must not keep the others waiting.
_AT_ONCE = 4
# Parts of one upload that are made side by side; each reads some 2.5 MiB ahead of what it writes.
_PARTS_AT_ONCE = 2
# A reader of an earlier version asks the journal whether that is a beginning of the object.
_KEEP_JOURNAL_SECONDS = 3600.0
_RETRY_SECONDS = 15.0
# Another try soon would end the same; the chunks stay as they are.
_HOPELESS = {ErrorReason.JOIN_FAILED, ErrorReason.NOT_A_VIDEO}
_HOPELESS_SECONDS = 3600.0
# A join may take an hour, and many may wait: each is looked at again after this part of its waiting time. The
# transcript, and whoever watches by a presigned URL, wait for the object that comes behind it.
_JOINING_PART, _JOINING_SECONDS, _LONGEST_JOINING_SECONDS = 0.25, 2.0, 15.0
# An entry for an upload that is not sealed: whoever made it is about to seal it, or died.
_UNSEALED_SECONDS = 60.0


class Overtaken(Exception):
    """Another process, whose lease of this upload had run out, has noted a multipart upload meanwhile."""


class Compaction:
    """Compacts sealed uploads, a few at a time in each process."""

    def __init__(
        self,
        *,
        sealing: Sealing,
        store: RedisJournalStore,
        objects: S3Objects,
        data: S3Bytes,
        catalog: CatalogClient,
        joiner: ClipJoiner,
        lease: Callable[[str], Lease],
        clock: Clock,
    ) -> None:
        """`lease` is the one under which the upload of a video id is compacted."""
        self._joiner = joiner
        self._sealing, self._store, self._catalog = sealing, store, catalog
        self._objects, self._data, self._lease, self._clock = objects, data, lease, clock
        self._at_work = set[asyncio.Task[None]]()

    async def run(self, interval_seconds: float) -> None:
        """Compact for ever: at once what this process sealed, and what others left."""
        try:
            while True:
                await tasks.until(self._sealing.wake, interval_seconds)
                self._sealing.wake.clear()
                with failures_logged("compaction"):
                    await self._begin()
        finally:
            await tasks.end(*self._at_work)

    async def _begin(self) -> None:
        """Begin with uploads that are due and that no other process works on, as many as may be at work."""
        due = await self._store.to_compact(self._clock.seconds()) if len(self._at_work) < _AT_ONCE else []
        for video_id in due:
            lease = self._lease(video_id)
            if await lease.take():
                task = asyncio.create_task(self._try(video_id, lease))
                self._at_work.add(task)
                task.add_done_callback(self._ended)
                if len(self._at_work) == _AT_ONCE:
                    return

    def _ended(self, task: asyncio.Task[None]) -> None:
        """The next one may begin."""
        self._at_work.remove(task)
        self._sealing.wake.set()

    async def _try(self, video_id: str, lease: Lease) -> None:
        """One upload whose lease is ours; a failure does not keep the others waiting."""
        # To note what came of it may fail, too: then it stays due.
        with failures_logged("compaction", video_id=video_id):
            try:
                await self._held(video_id, lease)
            finally:
                # Also where this process is told to stop: the next one need not wait for it.
                await lease.release()

    async def _held(self, video_id: str, lease: Lease) -> None:
        done, pause = False, _RETRY_SECONDS
        with failures_logged("compaction", video_id=video_id):
            try:
                done = await lease.hold(lambda: self.compact(video_id))
            except LeaseLost:
                return
            except Overtaken:
                log.warning("another process compacts the same upload", video_id=video_id)
            except ReelwayError as error:
                # Neither is a failure of ours: they are not counted.
                if error.reason is ErrorReason.JOINING:
                    pause = self._joining_pause(error)
                elif error.reason in _HOPELESS:
                    pause = _HOPELESS_SECONDS
                    log.warning("put off", what="compaction", video_id=video_id, why=str(error))
                else:
                    raise
        if done:
            await self._store.compaction_done(video_id)
        else:
            await self._store.put_off_compaction(video_id, self._clock.seconds() + pause)

    def _joining_pause(self, error: ReelwayError) -> float:
        """For how long an upload is left alone whose clips are being joined."""
        now = self._clock.seconds()
        waited = now - float(error.metadata.get("since", now))
        return min(max(_JOINING_PART * waited, _JOINING_SECONDS), _LONGEST_JOINING_SECONDS)

    async def compact(self, video_id: str) -> bool:
        """All steps that are left; True when nothing is left to do, False to look again later."""
        journal = await self._store.get(video_id)
        if journal is None:
            return True
        set_caller(caller_for(journal.owner))
        if journal.state is JournalState.OPEN:
            return self._clock.seconds() - journal.modified > _UNSEALED_SECONDS
        if journal.state is JournalState.SEALED:
            try:
                await self._sealing.record(journal)
                fault_points.reach("compact.begun")
                made = await self._make_object(journal)
                fault_points.reach("compact.completed")
                # A process that died between beginning a multipart upload and noting it has left one.
                await self._objects.abort_multiparts(made.object_key)
                await self._name_object(made)
            except ReelwayError as error:
                if error.reason is ErrorReason.JOIN_FAILED:
                    await self._end_transcript(journal, error)
                if error.reason is not ErrorReason.VIDEO_NOT_FOUND:
                    raise
                if await if_found(self._catalog.get(video_id=video_id)) is not None:
                    raise
                await self._forget(journal)
                return True
            fault_points.reach("compact.recorded")
            await self._store.step(video_id, JournalState.COMPACTED, object_key=made.object_key)
            fault_points.reach("compact.switched")
        await self._remove_chunks(journal)
        await self._store.drop(video_id, _KEEP_JOURNAL_SECONDS)
        log.info("compacted", video_id=video_id, size=journal.size, chunks=journal.chunks)
        return True

    async def _make_object(self, journal: Journal) -> catalog_pb2.AttachObjectRequest:
        """Make the upload's one object, whole; what names it in the record."""
        whole: Journal | Joined = journal
        if journal.clips > 1:
            # The clips as one file are a file in one piece: what is left is to copy it where it belongs.
            whole = await self._joiner.joined(journal.video_id, journal.etag, 0, owner=journal.owner)
            extents = [Extent(0, whole.size, whole.key)]
        else:
            extents = [extent async for extent in every_extent(self._store, journal)]
        key, parts, upload_id = object_key(journal.video_id, whole.container), plan(extents), journal.multipart
        made = catalog_pb2.AttachObjectRequest(
            video_id=journal.video_id,
            object_key=key,
            size_bytes=whole.size,
            etag=whole.etag,
            container=whole.container,
        )
        there = await self._objects.list_parts(key, upload_id) if upload_id else None
        if there is None:
            found = await self._objects.head(key)
            if found is not None and found.size == whole.size:
                return made
            begun = await self._objects.create_multipart(key, KINDS[whole.container].content_type)
            fault_points.reach("compact.unnoted")
            upload_id = await self._store.set_multipart(journal.video_id, begun, journal.multipart)
            if upload_id != begun:
                await self._objects.abort_multipart(key, begun)
                raise Overtaken
            fault_points.reach("compact.multipart")
            there = {}
        await self._objects.complete_multipart(key, upload_id, await self._parts(key, upload_id, parts, there))
        return made

    async def _parts(
        self, key: str, upload_id: str, parts: list[PartPlan], there: dict[int, tuple[int, str]]
    ) -> list[str]:
        async def make(number: int, part: PartPlan) -> str:
            size, etag = there.get(number, (-1, ""))
            if size == part.length:
                return etag
            if part.copied:
                etag = await self._objects.copy_part(key, upload_id, number, part.slices[0])
            else:
                etag = await self._data.put_part(
                    key, upload_id, number, part.length, lambda: read_slices(self._data, part.slices)
                )
            fault_points.reach("compact.part")
            return etag

        return await tasks.all_of(starmap(tasks.at_most(_PARTS_AT_ONCE, make), enumerate(parts, 1)))

    async def _name_object(self, made: catalog_pb2.AttachObjectRequest) -> None:
        """The record switches from the chunks to the object in this one step."""
        found = await self._objects.head(made.object_key)
        if found is None:
            # VIDEO_NOT_FOUND where it went with its video, which was deleted meanwhile.
            await self._catalog.get(video_id=made.video_id)
        if found is None or found.size != made.size_bytes:
            raise RuntimeError(f"{made.object_key} is not what was written")
        await self._catalog.attach_object(made)

    async def _end_transcript(self, journal: Journal, error: ReelwayError) -> None:
        """Fail the transcript, which would wait for ever for the one object that these clips never become."""
        video = await self._catalog.look_up(journal.video_id)
        await self._catalog.finish_transcript(
            transcript_pb2.FinishTranscriptRequest(
                video_id=journal.video_id,
                request=video.transcript.request,
                failure=media_pb2.TranscriptFailure(reason=error.reason.name, message=error.message),
            )
        )

    async def _forget(self, journal: Journal) -> None:
        """The video was deleted meanwhile: what was made since goes, too, whatever container it is."""
        for key in object_keys(journal.video_id):
            await self._objects.abort_multiparts(key)
            await self._objects.delete(key)
        await self._remove_chunks(journal)
        await self._store.drop(journal.video_id)

    async def _remove_chunks(self, journal: Journal) -> None:
        for prefix in (journal_prefix(journal.video_id), joined_prefix(journal.video_id)):
            await self._objects.delete_all(prefix)
            fault_points.reach("compact.removed")
