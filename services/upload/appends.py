"""Appending a chunk: start reading here.

header -> judge by the journal -> reserve memory -> stream the chunk to an object of its own -> one Lua call that makes
it part of the upload. The bytes are durable before the state that names them. Whoever finds the end moved by another
append gives its chunk a new key by a copy inside the store, and commits again. There is no lock and nothing on this
machine: any replica takes any chunk.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
from collections.abc import AsyncIterator

from reelway.v1 import media_pb2, upload_pb2

from services.common import fault_points, metrics, tasks
from services.common.byte_messages import AppendMessage, Buffer, ByteMessage
from services.common.caller import current_caller
from services.common.clock import Clock
from services.common.containers import SNIFF_BYTES, begins_clip, sniff
from services.common.error_catalog import ErrorReason
from services.common.errors import FieldViolation, ReelwayError, invalid_field
from services.common.request_limits import IDEMPOTENCY_KEY_LENGTH
from services.common.s3_objects import S3Objects
from services.upload.buffers import Buffers, Reservation
from services.upload.chunk_writer import Checksums, ChunkWriter, Largest
from services.upload.journal import Chunk, Committed, Journal, JournalState, Limits, Moved, offset_mismatch
from services.upload.journals import Journals
from services.upload.messages import FRAMING, beginning, data_of, first_of, idle_limited, negative
from services.upload.multipart_writer import NotUndone
from services.upload.redis_journal_store import RedisJournalStore

# So many others may overtake one append; each of them has made progress.
_MOST_MOVES = 64
# By which the store may be later than the client: where both are late, that is what the client is told of itself.
_STORE_SECONDS = 1.0
# What got a chunk in the last minute is not about to expire: a recorder's appends cost no further command of Redis.
_RESTED_SECONDS = 60.0


class Appends:
    """Chunks into uploads."""

    def __init__(
        self,
        *,
        journals: Journals,
        store: RedisJournalStore,
        objects: S3Objects,
        writer: ChunkWriter,
        buffers: Buffers,
        clock: Clock,
        limits: Limits,
        most_bytes: int,
        idle_seconds: float,
        longest_seconds: float,
        orphan_seconds: float,
    ) -> None:
        self._journals, self._store, self._objects, self._writer = journals, store, objects, writer
        self._buffers, self._clock, self._limits, self._most_bytes = buffers, clock, limits, most_bytes
        self._idle_seconds, self._longest_seconds, self._orphan_seconds = idle_seconds, longest_seconds, orphan_seconds
        self.undoing = tasks.Background()
        """What broken-off appends left is removed here; to be waited for last, before the process ends."""

    async def append(self, messages: AsyncIterator[AppendMessage]) -> Committed:
        """One chunk from its messages. Errors as UploadService.Append says."""
        ends = asyncio.get_running_loop().time() + self._longest_seconds
        source = idle_limited(messages, self._idle_seconds, ends)
        async with asyncio.timeout_at(ends + _STORE_SECONDS):
            first, header = await first_of(source)
            _check(header)
            journal = await self._journals.get_for_change(header.video_id)
            if header.idempotency_key:
                done = await self._store.replay(header.video_id, header.idempotency_key)
                if done is not None:
                    return _repeated(done, sum([len(piece) async for piece in data_of(first, source, announced=True)]))
            largest = self._judge(header, journal, journal.clips)
            if (now := self._clock.seconds()) - journal.modified > _RESTED_SECONDS:
                # It may be about to expire, while this chunk is on its way.
                await self._store.looked_at(journal.video_id, journal.owner, now)
            with self._buffers.reserve(_likely_size(header, first)) as reserved:
                pieces = reserved.counted(data_of(first, source, announced=True))
                head = await beginning(pieces)
                if not head:
                    raise ReelwayError(ErrorReason.EMPTY_CHUNK)
                return await self._append(header, journal, head, pieces, largest, room=reserved)

    def _judge(self, header: upload_pb2.AppendHeader, journal: Journal, clips: int) -> Largest:
        """Refuse what the commit would refuse, before bytes are wasted; how large the chunk may be.

        `clips` is how many the upload has with this chunk, as far as is known.
        """
        if journal.state is not JournalState.OPEN:
            raise ReelwayError(ErrorReason.UPLOAD_SEALED)
        if header.HasField("expected_offset_bytes") and header.expected_offset_bytes != journal.size:
            raise offset_mismatch(journal.size)
        if journal.chunks >= self._limits.chunks:
            raise ReelwayError(ErrorReason.TOO_MANY_CHUNKS, metadata={"most": str(self._limits.chunks)})
        if clips > self._limits.clips:
            raise ReelwayError(ErrorReason.TOO_MANY_CLIPS, metadata={"most": str(self._limits.clips)})
        limits = [
            Largest(self._most_bytes, _too_large(ErrorReason.CHUNK_TOO_LARGE, self._most_bytes)),
            Largest(self._limits.bytes - journal.size, _too_large(ErrorReason.FILE_TOO_LARGE, self._limits.bytes)),
        ]
        if clips > 1:
            most = self._limits.clips_bytes
            limits.append(Largest(most - journal.size, _too_large(ErrorReason.CLIPS_TOO_LARGE, most)))
        # There is no chunk without a byte.
        declared = max(1, header.declared_size_bytes, header.max_size_bytes - FRAMING)
        for limit in limits:
            if declared > limit.length:
                raise limit.refusal
        return min(limits, key=lambda limit: limit.length)

    async def _append(
        self,
        header: upload_pb2.AppendHeader,
        journal: Journal,
        head: list[Buffer],
        pieces: AsyncIterator[Buffer],
        largest: Largest,
        *,
        room: Reservation,
    ) -> Committed:
        sniffed = bytes(head[0][:SNIFF_BYTES]) if len(head) == 1 else b"".join(head)[:SNIFF_BYTES]
        chunk = Chunk.new(journal.video_id, journal.size, begins_clip=begins_clip(sniffed))
        if chunk.begins_clip:
            largest = self._judge(header, journal, journal.clips + 1)
        fault_points.reach("append.judged")
        swept = self._clock.seconds() + self._orphan_seconds
        try:
            checksums = Checksums(sha256=bool(header.sha256), crc32c=header.HasField("crc32c"))
            stored = await self._writer.write(
                chunk.key, _chain(head, pieces), header.declared_size_bytes, largest, checksums, room=room
            )
            if header.sha256 != stored.sha256 or (checksums.crc32c and header.crc32c != stored.crc32c):
                raise ReelwayError(ErrorReason.CHECKSUM_MISMATCH)
        except NotUndone as error:
            raise ReelwayError(ErrorReason.STORE_UNAVAILABLE) from error
        except BaseException:
            self._undo(chunk)
            raise
        metrics.BYTES.labels("in").inc(stored.length)
        fault_points.reach("append.stored")
        chunk = dataclasses.replace(chunk, length=stored.length, etag=stored.etag)
        return await self._commit(header, chunk, sniff(sniffed), swept)

    async def _commit(
        self, header: upload_pb2.AppendHeader, chunk: Chunk, container: media_pb2.Container.ValueType, swept: float
    ) -> Committed:
        """Make the chunk part of the upload, wherever that ends by now."""
        expected = header.expected_offset_bytes if header.HasField("expected_offset_bytes") else None
        for _ in range(_MOST_MOVES):
            try:
                answer = await self._store.commit(
                    chunk,
                    current_caller().user,
                    self._limits,
                    now=self._clock.seconds(),
                    swept=swept,
                    container=container,
                    expected_offset=expected,
                    idempotency_key=header.idempotency_key,
                )
                if answer is None:
                    # Redis was emptied since we looked. Restored from S3, the journal may have this very chunk already.
                    await self._journals.get_for_change(chunk.video_id)
                    continue
            except ReelwayError as error:
                # Whether the journal has it cannot be known now: the object stays, and the sweeper decides.
                if error.kind.http_status < 500:
                    self._undo(chunk)
                raise
            if isinstance(answer, Committed):
                fault_points.reach("append.committed")
                if answer.replayed:
                    self._undo(chunk)
                    return _repeated(answer, chunk.length)
                return answer
            chunk = await self._rekey(chunk, answer)
        self._undo(chunk)
        raise ReelwayError(ErrorReason.UPLOAD_BUSY)

    async def _rekey(self, chunk: Chunk, moved: Moved) -> Chunk:
        """The same chunk under a key that says where it shall begin now."""
        again = dataclasses.replace(chunk, offset=moved.size)
        try:
            await self._objects.copy(chunk.key, again.key)
        except BaseException:
            self._undo(chunk, again)
            raise
        fault_points.reach("append.moved")
        self._undo(chunk)
        return again

    def _undo(self, *chunks: Chunk) -> None:
        """Remove objects that are no part of the upload, behind the caller; the sweeper gets what this misses."""

        async def remove() -> None:
            for chunk in chunks:
                with contextlib.suppress(ReelwayError):
                    # Where Redis was emptied, the journal may just have been restored from the chunks that were found.
                    located = await self._store.locate(chunk.video_id, chunk.offset, 1, "", 1)
                    if located is not None and chunk.key not in [extent.key for extent in located.extents]:
                        await self._objects.delete(chunk.key)

        self.undoing.start(remove())


def _repeated(first: Committed, length: int) -> Committed:
    """The first answer to a chunk's idempotency key, for a chunk that is the same, as far as its length tells."""
    if not length:
        raise ReelwayError(ErrorReason.EMPTY_CHUNK)
    if length != first.size - first.offset:
        raise invalid_field("idempotency_key", "was used for a chunk of another length")
    return first


def _too_large(reason: ErrorReason, most: int) -> ReelwayError:
    return ReelwayError(reason, metadata={"max_bytes": str(most)})


def _check(header: upload_pb2.AppendHeader) -> None:
    faults = []
    if len(header.sha256) not in (0, 32):
        faults.append(FieldViolation("sha256", "must be 32 bytes"))
    if len(header.idempotency_key) > IDEMPOTENCY_KEY_LENGTH:
        faults.append(
            FieldViolation(
                "idempotency_key", f"String should have at most {IDEMPOTENCY_KEY_LENGTH} characters", "string_too_long"
            )
        )
    faults += negative(header, "expected_offset_bytes", "declared_size_bytes", "max_size_bytes")
    if faults:
        raise ReelwayError(ErrorReason.INVALID_REQUEST, violations=faults)


def _likely_size(header: upload_pb2.AppendHeader, first: ByteMessage[upload_pb2.AppendHeader]) -> int | None:
    """Bytes of the chunk, as far as its first message tells; None: it does not."""
    if first.finish:
        return sum(map(len, first.data))
    return header.declared_size_bytes or header.max_size_bytes or None


async def _chain(head: list[Buffer], rest: AsyncIterator[Buffer]) -> AsyncIterator[Buffer]:
    for piece in head:
        yield piece
    async for piece in rest:
        yield piece
