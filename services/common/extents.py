"""Runs of bytes in objects of their own, which make up a video that was appended; and reading across them.

    journal/{video_id}/{offset}-{random}[-clip]   one appended chunk
    joined/{video_id}/…                           several clips joined to one file

The offset is where the chunk begins in the video, in 16 decimal digits, so that keys sort by it and a journal can
be made again from a listing; `-clip` marks a chunk that begins with a container's signature.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass

from services.common.byte_messages import Buffer
from services.common.s3_bytes import S3Bytes
from services.common.s3_objects import Slice

# An extent up to this size is fetched in one piece, several at once; larger ones stream, one after the other.
_SMALL = 256 * 2**10
_AHEAD = 8


@dataclass(frozen=True)
class Extent:
    """One chunk, where it is and what it holds."""

    offset: int
    length: int
    key: str
    begins_clip: bool = False

    @classmethod
    def of(cls, key: str, length: int) -> Extent:
        """The chunk under this key."""
        name = key.rpartition("/")[2]
        return cls(int(name[:16]), length, key, name.endswith("-clip"))

    @property
    def end(self) -> int:
        """Offset behind its last byte."""
        return self.offset + self.length


def slices(extents: Sequence[Extent], offset: int, length: int) -> list[Slice]:
    """What of each extent holds these bytes, in order; as far as the extents go."""
    end = offset + length
    found: list[Slice] = []
    for extent in extents:
        start, stop = max(offset, extent.offset), min(end, extent.end)
        if start < stop:
            found.append(Slice(extent.key, start - extent.offset, stop - start))
    return found


async def read_slices(store: S3Bytes, wanted: Sequence[Slice]) -> AsyncIterator[Buffer]:
    """The bytes of these slices one after the other, small ones fetched a few ahead.

    Raises:
        ReelwayError: as S3Bytes.read; VIDEO_NOT_FOUND where an object is gone.
    """
    fetches: dict[int, asyncio.Task[bytes]] = {}
    asked = 0
    try:
        for index, wish in enumerate(wanted):
            while asked < len(wanted) and len(fetches) < _AHEAD and wanted[asked].length <= _SMALL:
                fetches[asked] = asyncio.create_task(_fetch(store, wanted[asked]))
                asked += 1
            if index in fetches:
                # It stays in `fetches` while it is awaited: a reader who leaves now must not leave it running.
                fetched = await fetches[index]
                del fetches[index]
                yield fetched
            else:
                asked = index + 1
                async for piece in store.read(wish.key, wish.start, wish.length):
                    yield piece
    finally:
        for fetch in fetches.values():
            fetch.cancel()
        await asyncio.gather(*fetches.values(), return_exceptions=True)


async def _fetch(store: S3Bytes, wish: Slice) -> bytes:
    return b"".join([piece async for piece in store.read(wish.key, wish.start, wish.length)])
