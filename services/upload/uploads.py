"""Taking a whole file in: start reading here.

header -> reserve memory -> sniff the first bytes -> enter the upload in Redis -> multipart upload of its final key ->
record in the catalogue -> strike the upload out. The bytes are durable before the record that names them; whatever
stops in between is undone here, or, after a crash, by the sweeper.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable

from reelway.v1 import media_pb2, upload_pb2

from services.common import entity_tags, logs, metrics, tasks
from services.common.byte_messages import Buffer, UploadMessage
from services.common.caller import current_caller
from services.common.catalog_client import CatalogClient, if_found
from services.common.containers import KINDS, sniff
from services.common.error_catalog import ErrorReason
from services.common.errors import ReelwayError
from services.common.object_keys import object_key
from services.common.s3_bytes import S3Bytes
from services.common.s3_objects import S3Objects
from services.upload.buffers import Buffers, Reservation
from services.upload.file_name import plain_name
from services.upload.messages import FRAMING, beginning, data_of, first_of, idle_limited, negative
from services.upload.multipart_writer import MultipartWriter, NotUndone
from services.upload.open_uploads import OpenUpload, OpenUploads

log = logs.get_logger(__name__)


class _Undecided(Exception):
    """The record may or may not exist: the entry stays, and the sweeper decides."""


class Uploads:
    """Whole files into videos."""

    def __init__(
        self,
        *,
        objects: S3Objects,
        data: S3Bytes,
        catalog: CatalogClient,
        open_uploads: OpenUploads,
        buffers: Buffers,
        max_bytes: int,
        idle_seconds: float,
    ) -> None:
        self._objects, self._data, self._catalog, self._open_uploads = objects, data, catalog, open_uploads
        self._buffers, self._max_bytes, self._idle_seconds = buffers, max_bytes, idle_seconds
        self.undoing = tasks.Background()
        """Cancelled uploads are undone here; to be waited for last, before the process ends."""

    async def upload(self, messages: AsyncIterator[UploadMessage]) -> media_pb2.Video:
        """One file from its messages; the finished video. Errors as UploadService.UploadVideo says."""
        source = idle_limited(messages, self._idle_seconds)
        message, header = await first_of(source)
        if faults := negative(header, "declared_size_bytes", "max_size_bytes"):
            raise ReelwayError(ErrorReason.INVALID_REQUEST, violations=faults)
        if header.declared_size_bytes > self._max_bytes or header.max_size_bytes > self._max_bytes + FRAMING:
            raise self._too_large()
        with contextlib.ExitStack() as reserved:
            likely = header.declared_size_bytes or header.max_size_bytes or None
            room = reserved.enter_context(self._buffers.reserve(likely))
            data = room.counted(data_of(message, source, announced=header.announces_finish))
            first = b"".join(await beginning(data))
            if not first:
                raise ReelwayError(ErrorReason.EMPTY_FILE)
            container = sniff(first)
            if container not in KINDS:
                raise ReelwayError(ErrorReason.NOT_A_VIDEO)
            video_id = str(uuid.uuid4())
            upload = OpenUpload(video_id, object_key(video_id, container), current_caller().user)
            store = functools.partial(self._store_file, upload, container, header, first, data, room=room)
            work = asyncio.create_task(self._store_and_record(upload, store))
            # The room is given back when the work ends, which may be after this call.
            until_it_ends = reserved.pop_all()
            work.add_done_callback(lambda _: until_it_ends.close())
        try:
            return await asyncio.shield(work)
        except asyncio.CancelledError:
            if work.cancelled():
                raise ReelwayError(ErrorReason.STORE_UNAVAILABLE) from None
            # The client has gone, or the server stops: what was begun is undone, by a task that outlives this one.
            work.cancel()
            self.undoing.start(_ended(work))
            raise

    async def _store_and_record(
        self, upload: OpenUpload, store: Callable[[], Awaitable[media_pb2.Video]]
    ) -> media_pb2.Video:
        """What is to be recorded is what `store` brings."""
        await self._open_uploads.begin(upload)
        heartbeat = asyncio.create_task(self._keep_alive(upload, asyncio.current_task()))
        decided = True
        try:
            video = await store()
            # From here on nothing cancels it: cut short, it could leave a record whose object is swept.
            heartbeat.cancel()
            recording = asyncio.create_task(self._record(upload, video))
            try:
                return await asyncio.shield(recording)
            except asyncio.CancelledError:
                return await recording
        except (_Undecided, NotUndone) as error:
            decided = False
            with contextlib.suppress(ReelwayError):  # Redis is away: it has the entry when it is back
                await self._open_uploads.begin(upload)  # again: emptied meanwhile, it would not tell the sweeper
            raise ReelwayError(ErrorReason.STORE_UNAVAILABLE) from error
        except ReelwayError as error:
            log.info("upload refused", video_id=upload.video_id, why=str(error))
            raise
        finally:
            heartbeat.cancel()
            if decided:
                with contextlib.suppress(ReelwayError):  # Redis is away: the sweeper finds the entry when it is back
                    await self._open_uploads.end(upload)

    async def _store_file(
        self,
        upload: OpenUpload,
        container: media_pb2.Container.ValueType,
        header: upload_pb2.UploadHeader,
        first: bytes,
        data: AsyncIterator[Buffer],
        *,
        room: Reservation,
    ) -> media_pb2.Video:
        likely, content_type = header.declared_size_bytes or header.max_size_bytes, KINDS[container].content_type
        async with MultipartWriter(
            self._objects, self._data, upload.key, content_type, room=room, likely_size=likely
        ) as writer:
            await self._write(writer, first, header)
            async for piece in data:
                await self._write(writer, piece, header)
            if header.declared_size_bytes not in (0, writer.size):
                raise ReelwayError(ErrorReason.LENGTH_MISMATCH)
            sha256 = await writer.complete()
        metrics.BYTES.labels("in").inc(writer.size)
        return media_pb2.Video(
            video_id=upload.video_id,
            state=media_pb2.VIDEO_STATE_READY,
            file_name=plain_name(header.file_name),
            container=container,
            size_bytes=writer.size,
            sha256=sha256,
            etag=entity_tags.of_file(sha256),
            object_key=upload.key,
        )

    async def _write(self, writer: MultipartWriter, piece: Buffer, header: upload_pb2.UploadHeader) -> None:
        if writer.size + len(piece) > (header.declared_size_bytes or self._max_bytes):
            raise ReelwayError(ErrorReason.LENGTH_MISMATCH) if header.declared_size_bytes else self._too_large()
        await writer.write(piece)

    async def _record(self, upload: OpenUpload, video: media_pb2.Video) -> media_pb2.Video:
        try:
            if not await self._open_uploads.renew(upload):
                # We were frozen for longer than the lease, and the sweeper has removed the object.
                raise ReelwayError(ErrorReason.STORE_UNAVAILABLE)
            recorded = await self._catalog.create(video)
            if not await self._open_uploads.renew(upload):
                # Frozen on the way to the catalog: whether the sweeper was there before the record is not known.
                await if_found(self._catalog.delete(upload.video_id))
                raise ReelwayError(ErrorReason.STORE_UNAVAILABLE)
            return recorded
        except ReelwayError as error:
            if error.kind.http_status >= 500 or error.reason is ErrorReason.TOO_MANY_REQUESTS:
                # It is not known whether the catalog has the record: also where it had no room for another try behind
                # one whose answer was lost.
                raise _Undecided from error
            try:
                await self._objects.delete(upload.key)
            except ReelwayError as failure:
                raise _Undecided from failure
            raise
        except asyncio.CancelledError as error:
            raise _Undecided from error  # the process ends

    async def _keep_alive(self, upload: OpenUpload, work: asyncio.Task[media_pb2.Video] | None) -> None:
        while True:
            await asyncio.sleep(self._open_uploads.heartbeat_seconds)
            with contextlib.suppress(ReelwayError):  # Redis is away for a moment: try again at the next beat
                if not await self._open_uploads.renew(upload) and work is not None:
                    work.cancel()
                    return

    def _too_large(self) -> ReelwayError:
        return ReelwayError(ErrorReason.FILE_TOO_LARGE, metadata={"max_bytes": str(self._max_bytes)})


async def _ended(task: asyncio.Task[media_pb2.Video]) -> None:
    await asyncio.wait([task])
    if not task.cancelled() and (error := task.exception()) is not None and not isinstance(error, ReelwayError):
        log.error("undoing an upload failed", exc_info=error)
