"""The memory of all uploads and appends under way, under one bound.

Without it a process that many clients send to at once would run out of memory, and take every one of their uploads
with it. Each upload gets room for one part at once, so that it always gets ahead, and waits for more, which makes it
faster; half of all room is reserved for new uploads. Where there is none for a new one, the slowest makes some, if it
is slow: else a few hundred clients who send a byte now and then would shut all others out.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import AsyncIterator
from types import TracebackType

from prometheus_client import Gauge

from services.common.byte_messages import Buffer
from services.common.byte_pool import BytePool
from services.common.error_catalog import ErrorReason
from services.common.errors import ReelwayError
from services.upload.part_plan import IN_FLIGHT, PART

_SLOW_SECONDS = 30.0
"""A client that was waited for so long in all,"""
_SLOW_RATE = 2**14
"""and brought fewer bytes for each of these seconds, is slow: slower than a phone. Not more, because clients that are
ended come back and end others: of many that were slow none would finish."""
_RESERVED = Gauge("reelway_upload_buffer_bytes", "Bytes reserved for uploads and appends under way")


class Buffers:
    """Bytes that the uploads and appends of this process may hold together."""

    def __init__(self, most_bytes: int) -> None:
        self._pool = BytePool(most_bytes, _RESERVED)
        self._for_comers = most_bytes // 2
        self._changed = asyncio.Event()
        self._reservations = set[Reservation]()

    def reserve(self, size: int | None) -> Reservation:
        """Room for the first part of an upload of `size` bytes (None: not known).

        Nobody waits for that: the next try may well meet a replica that has room.

        Raises:
            ReelwayError: TOO_MANY_REQUESTS.
        """
        reservation = Reservation(self)
        reservation.cover(PART if size is None else size)
        self._reservations.add(reservation)
        return reservation

    def _end_slowest(self) -> None:
        # There is one: somebody holds the room.
        slowest = min(self._reservations, key=Reservation.rate)
        if slowest.rate() < _SLOW_RATE:
            slowest.give_up()

    def _give_back(self, size: int) -> None:
        self._pool.give_back(size)
        self._wake()

    def _wake(self) -> None:
        self._changed.set()
        self._changed = asyncio.Event()


class Reservation:
    """Room in the buffers, until the end of the context."""

    def __init__(self, buffers: Buffers) -> None:
        self._buffers = buffers
        self._first = 0
        self._parts = 0
        self._received = 0
        self._waited = 0.0
        self._waits: tuple[float, asyncio.Timeout] | None = None
        """Since when for the client, and what ends that."""

    def rate(self) -> float:
        """Bytes for each second that the client was waited for; infinite unless it is now, and was for long enough."""
        if self._waits is None or (seconds := self._waited + time.monotonic() - self._waits[0]) < _SLOW_SECONDS:
            return math.inf
        return self._received / seconds

    def give_up(self) -> None:
        """End the upload, whose client is being waited for."""
        if self._waits is not None:
            self._waits[1].reschedule(0)
            # It has not ended yet: whoever finds no room until then is to end another one.
            self._waits = None

    def cover(self, size: int) -> None:
        """Take what the first part of an upload of `size` bytes needs beyond what was taken; TOO_MANY_REQUESTS."""
        more = min(size, PART) - self._first
        if more > 0:
            if not self._buffers._pool.take(more):
                self._buffers._end_slowest()
                raise ReelwayError(ErrorReason.TOO_MANY_REQUESTS, "Too many uploads are under way; try again later")
            self._first += more

    async def counted(self, pieces: AsyncIterator[Buffer]) -> AsyncIterator[Buffer]:
        """The same pieces. Room is made for those that come beyond what was reserved: a client's word is no bound.

        Raises:
            ReelwayError: TOO_MANY_REQUESTS, also where the client is slow, and another one finds no room.
        """
        while (piece := await self._next(pieces)) is not None:
            self._received += len(piece)
            self.cover(self._received)
            yield piece

    async def _next(self, pieces: AsyncIterator[Buffer]) -> Buffer | None:
        began = time.monotonic()
        try:
            async with asyncio.timeout(None) as limit:
                self._waits = began, limit
                return await anext(pieces, None)
        except TimeoutError:
            raise ReelwayError(ErrorReason.TOO_MANY_REQUESTS, "Too many uploads are under way for a slow one") from None
        finally:
            self._waits = None
            self._waited += time.monotonic() - began

    async def begin_part(self) -> None:
        """Wait for room for a part, from the pool or left by an own one; there is some at once where none is held."""
        while self._parts == IN_FLIGHT or (self._parts > 0 and not self._take_part()):
            await self._buffers._changed.wait()
        self._parts += 1

    def _take_part(self) -> bool:
        return self._buffers._pool.take(PART, leaving=self._buffers._for_comers)

    def end_part(self) -> None:
        """A part that began is no longer kept."""
        self._parts -= 1
        if self._parts > 0:
            self._buffers._give_back(PART)
        else:
            self._buffers._wake()

    def __enter__(self) -> Reservation:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Gives the room back."""
        self._buffers._reservations.discard(self)
        self._buffers._give_back(self._first + max(0, self._parts - 1) * PART)
        self._first = self._parts = 0
