"""The memory of all uploads and appends under way, under one bound.

Each holds at most MOST_HELD bytes, whatever its size; without a bound for all of them a process that many clients
send to at once would run out of memory, and take every one of their uploads with it.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from types import TracebackType

from prometheus_client import Gauge

from services.common.byte_messages import Buffer
from services.common.error_catalog import ErrorReason
from services.common.errors import ReelwayError
from services.upload.part_plan import MOST_HELD

_RESERVED = Gauge("reelway_upload_buffer_bytes", "Bytes reserved for uploads and appends under way")


class Buffers:
    """Bytes that the uploads and appends of this process may hold together."""

    def __init__(self, most_bytes: int) -> None:
        self._free = most_bytes

    def reserve(self, size: int | None) -> Reservation:
        """Room for what an upload of `size` bytes (None: not known) holds at most.

        Nobody waits: the next try may well meet a replica that has room.

        Raises:
            ReelwayError: TOO_MANY_REQUESTS.
        """
        reservation = Reservation(self)
        reservation.cover(MOST_HELD if size is None else size)
        return reservation

    def _take(self, size: int) -> None:
        if size > self._free:
            raise ReelwayError(ErrorReason.TOO_MANY_REQUESTS, "Too many uploads are under way; try again later")
        self._free -= size
        _RESERVED.inc(size)

    def _give_back(self, size: int) -> None:
        self._free += size
        _RESERVED.dec(size)


class Reservation:
    """Room in the buffers, until the end of the context."""

    def __init__(self, buffers: Buffers) -> None:
        self._buffers = buffers
        self._size = 0

    def cover(self, size: int) -> None:
        """Be room for an upload of `size` bytes, if it is not yet. TOO_MANY_REQUESTS where there is none."""
        more = min(size, MOST_HELD) - self._size
        if more > 0:
            self._buffers._take(more)
            self._size += more

    async def counted(self, pieces: AsyncIterator[Buffer]) -> AsyncIterator[Buffer]:
        """The same pieces. Room is made for those that come beyond what was reserved: a client's word is no bound."""
        size = 0
        async for piece in pieces:
            size += len(piece)
            self.cover(size)
            yield piece

    def __enter__(self) -> Reservation:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Gives the room back."""
        self._buffers._give_back(self._size)
        self._size = 0
