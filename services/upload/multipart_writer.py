"""Writes a stream of bytes as one multipart upload: parts under way together, memory bounded."""

from __future__ import annotations

import asyncio
import hashlib
from types import TracebackType

from services.common import fault_points, tasks
from services.common.byte_messages import Buffer
from services.common.errors import ReelwayError
from services.common.s3_bytes import S3Bytes
from services.common.s3_objects import S3Objects
from services.upload.buffers import Reservation
from services.upload.part import Part
from services.upload.part_plan import PART, SMALL_PIECE


class NotUndone(Exception):
    """The store failed while an upload was begun, or a broken-off one removed; something of it may be left."""


class MultipartWriter:
    """As a context: left by an exception or without `complete`, nothing of it stays in S3 (else: NotUndone).

    `write` waits for room for the part that it begins, and so the sender is held back to the store's pace.
    """

    def __init__(
        self,
        objects: S3Objects,
        data: S3Bytes,
        key: str,
        content_type: str,
        *,
        room: Reservation,
        likely_size: int = 0,
        hashing: bool = True,
    ) -> None:
        """The file will most likely have `likely_size` bytes, 0: not known.

        Without `hashing`, which costs a third of the CPU, `complete` answers the sum of nothing.
        """
        self._objects, self._data, self._key, self._content_type = objects, data, key, content_type
        self._room, self._likely_size = room, likely_size
        self._upload_id = ""
        self._hashing = hashing
        self._part: Part | None = None
        self._sends: list[asyncio.Task[str]] = []
        self._failed: BaseException | None = None
        self._completing: asyncio.Task[None] | None = None
        self._hash = hashlib.sha256()
        self._small = bytearray()
        self._placed = 0
        self.size = 0

    async def __aenter__(self) -> MultipartWriter:
        """Begins the multipart upload; NotUndone where it is not known whether the store did."""
        begun = asyncio.create_task(self._objects.create_multipart(self._key, self._content_type))
        try:
            self._upload_id = await asyncio.shield(begun)
        except asyncio.CancelledError:
            # The request is on its way: only its answer tells what is to be aborted.
            await tasks.to_the_end(self._abort_begun(begun))
            raise
        except ReelwayError as failure:
            # The store may have begun it all the same.
            raise NotUndone from failure
        return self

    async def _abort_begun(self, begun: asyncio.Task[str]) -> None:
        try:
            await self._objects.abort_multipart(self._key, await begun)
        except ReelwayError as failure:
            raise NotUndone from failure

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Removes what is there unless it was completed."""
        # Nothing is awaited after completion: a cancellation here would hide from the caller that the object exists.
        if error is not None or self._completing is None:
            await tasks.to_the_end(self._leave())

    async def _leave(self) -> None:
        for send in self._sends:
            send.cancel()
        # A part that S3 takes after the abort would keep the upload alive: wait until none is on its way.
        await asyncio.gather(*self._sends, return_exceptions=True)
        if self._completing is not None:
            # The store may still be completing it, and would be done after the deletion below.
            await asyncio.gather(self._completing, return_exceptions=True)
        try:
            await self._objects.abort_multipart(self._key, self._upload_id)
            if self._completing is not None:
                # Whether S3 completed it before it failed is not known.
                await self._objects.delete(self._key)
        except ReelwayError as failure:
            raise NotUndone from failure

    async def write(self, piece: Buffer) -> None:
        """The next bytes.

        Raises:
            ReelwayError: STORE_UNAVAILABLE, when any part could not be stored.
        """
        if self._hashing:
            self._hash.update(piece)
        self.size += len(piece)
        if self._small or len(piece) < SMALL_PIECE:
            self._small += piece
            if len(self._small) < SMALL_PIECE:
                return
            piece, self._small = memoryview(self._small), bytearray()
        await self._place(piece)

    async def _place(self, piece: Buffer) -> None:
        view = memoryview(piece)
        while view:
            if self._failed is not None:
                raise self._failed
            if self._part is None:
                await self._room.begin_part()
                self._part = self._begin_part()
            taken = view[: PART - self._part.size]
            self._part.add(taken)
            self._placed += len(taken)
            view = view[len(taken) :]
            if self._part.size == PART:
                self._end_part()

    def _begin_part(self) -> Part:
        left = self._likely_size - self._placed
        part, number = Part(min(PART, left) if left > 0 else None), len(self._sends) + 1
        send = asyncio.create_task(
            part.send(lambda length, body: self._data.put_part(self._key, self._upload_id, number, length, body))
        )
        send.add_done_callback(self._sent)
        self._sends.append(send)
        return part

    def _sent(self, send: asyncio.Task[str]) -> None:
        self._room.end_part()
        fault_points.reach("multipart.part")
        if not send.cancelled() and (error := send.exception()) is not None:
            self._failed = self._failed or error

    def _end_part(self) -> None:
        if self._part is not None:
            self._part.end()
            self._part = None

    async def complete(self) -> str:
        """Wait for every part, make the object; SHA-256 of all bytes in hex."""
        await self._place(memoryview(self._small))
        self._end_part()
        etags = await asyncio.gather(*self._sends)
        completing = self._objects.complete_multipart(self._key, self._upload_id, etags)
        self._completing = asyncio.create_task(completing)
        await asyncio.shield(self._completing)
        return self._hash.hexdigest()
