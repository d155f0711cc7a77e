"""Writes one chunk to its own object while it arrives, and makes on the way the checksums that the client gave.

A chunk of known size, up to a part's, streams in one PUT. One of unknown size is collected up to a part's size, and
is one PUT, too, if it ends there. Anything larger becomes a multipart upload.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator, Iterable
from dataclasses import dataclass

import crc32c

from services.common.byte_messages import Buffer
from services.common.error_catalog import ErrorReason
from services.common.errors import ReelwayError
from services.common.s3_bytes import S3Bytes
from services.common.s3_objects import S3Objects
from services.upload.buffers import Reservation
from services.upload.multipart_writer import MultipartWriter
from services.upload.part import Part
from services.upload.part_plan import PART, SMALL_PIECE

_TYPE = "application/octet-stream"


@dataclass(frozen=True)
class Checksums:
    """Which checksums to make of a chunk; SHA-256 costs a third of the CPU of an append."""

    sha256: bool = False
    crc32c: bool = False


@dataclass(frozen=True)
class Largest:
    """How long a chunk may be."""

    length: int
    """In bytes."""
    refusal: ReelwayError
    """What a longer one is refused with."""


@dataclass(frozen=True)
class Stored:
    """What was written."""

    length: int
    etag: str
    """S3's, with quotes: made of the bytes."""
    sha256: bytes
    """Empty unless it was asked for."""
    crc32c: int
    """0 unless it was asked for."""


class ChunkWriter:
    """Writes chunks; the object is there, whole, when `write` returns, and not if it raises (but for a crash)."""

    def __init__(self, objects: S3Objects, data: S3Bytes) -> None:
        self._objects, self._data = objects, data

    async def write(
        self,
        key: str,
        pieces: AsyncIterator[Buffer],
        declared: int,
        largest: Largest,
        checksums: Checksums,
        *,
        room: Reservation,
    ) -> Stored:
        """Store the bytes of `pieces` under `key`.

        Args:
            key: a new object's.
            pieces: the bytes; what it raises ends the object and comes out.
            declared: how many there are, checked; 0: not known.
            largest: how many there may be, and what refuses more.
            checksums: which to make of the bytes.
            room: for the bytes of one part; more is waited for.

        Raises:
            ReelwayError: `largest.refusal`, LENGTH_MISMATCH, STORE_UNAVAILABLE.
            NotUndone: the store failed, and something of it may be left there.
        """
        source = _Source(pieces, declared, largest, checksums)
        if 0 < declared <= PART:
            etag = await self._stream(key, source, declared)
        else:
            etag = await self._collect_or_split(key, source, room)
        return Stored(source.length, etag, source.sha256.digest() if checksums.sha256 else b"", source.crc)

    async def _stream(self, key: str, source: _Source, length: int) -> str:
        first = await source.next()
        if source.length == length:
            # The most common chunk by far comes in one message.
            await source.next()
            return await self._data.put(key, _TYPE, length, first or b"")
        part = Part(length)
        send = asyncio.create_task(part.send(lambda size, body: self._data.put(key, _TYPE, size, body)))
        try:
            piece = first
            while piece is not None:
                part.add(piece)
                piece = await source.next()
                if send.done():
                    break
            part.end()
            return await send
        finally:
            send.cancel()
            await asyncio.gather(send, return_exceptions=True)

    async def _collect_or_split(self, key: str, source: _Source, room: Reservation) -> str:
        kept: list[Buffer] = []
        while source.length < PART and (piece := await source.next()) is not None:
            kept.append(piece)
        if source.length < PART:
            return await self._data.put(key, _TYPE, source.length, lambda: _each(kept))
        # The source makes the checksums that are wanted.
        writer = MultipartWriter(
            self._objects, self._data, key, _TYPE, room=room, likely_size=source.declared, hashing=False
        )
        async with writer:
            for piece in kept:
                await writer.write(piece)
            kept.clear()
            while (more := await source.next()) is not None:
                await writer.write(more)
            await writer.complete()
        found = await self._objects.head(key)
        if found is None:
            raise ReelwayError(ErrorReason.STORE_UNAVAILABLE)
        return found.etag


async def _each(pieces: Iterable[Buffer]) -> AsyncIterator[Buffer]:
    for piece in pieces:
        yield piece


class _Source:
    """The pieces of a chunk, counted and checked for their number; small ones put together."""

    def __init__(self, pieces: AsyncIterator[Buffer], declared: int, largest: Largest, checksums: Checksums) -> None:
        self._pieces, self._largest, self._checksums = pieces, largest, checksums
        self.sha256 = hashlib.sha256()
        self.declared = declared
        self.crc = 0
        self.length = 0

    async def next(self) -> Buffer | None:
        """The next piece, None behind the last."""
        piece = await anext(self._pieces, None)
        if piece is None:
            if self.declared not in (0, self.length):
                raise ReelwayError(ErrorReason.LENGTH_MISMATCH)
            return None
        self._count(piece)
        if len(piece) >= SMALL_PIECE or self.length == self.declared:
            return piece
        joined = bytearray(piece)
        while len(joined) < SMALL_PIECE and self.length != self.declared:
            more = await anext(self._pieces, None)
            if more is None:
                break
            self._count(more)
            joined += more
        return memoryview(joined)

    def _count(self, piece: Buffer) -> None:
        self.length += len(piece)
        if self.declared and self.length > self.declared:
            raise ReelwayError(ErrorReason.LENGTH_MISMATCH)
        if self.length > self._largest.length:
            raise self._largest.refusal
        if self._checksums.sha256:
            self.sha256.update(piece)
        if self._checksums.crc32c:
            self.crc = crc32c.crc32c(piece, self.crc)
