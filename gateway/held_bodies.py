"""The memory of all bodies that are held until they are whole, such as JSON, under one bound.

Without it a few clients could fill a process: of a compressed body a KB from the network is a MB here.
"""

from __future__ import annotations

from collections import Counter

from aiohttp import web
from aiohttp.typedefs import Handler, Middleware
from prometheus_client import Gauge

from services.common.byte_pool import BytePool
from services.common.caller import current_caller
from services.common.error_catalog import ErrorReason
from services.common.errors import ReelwayError

LARGEST = 16 * 2**20
"""Bytes of the largest body that any route holds."""

_HELD = Gauge("reelway_held_body_bytes", "Bytes of request bodies that are held until they are whole")
_SMALL = 2**16


class _Room:
    """What one request holds, and with all others of its caller."""

    def __init__(self, most_bytes: int, pool: BytePool, held: Counter[str], caller: str) -> None:
        self._most, self._pool = most_bytes, pool
        self._held, self._caller = held, caller
        self._size = 0

    def grow(self, size: int) -> None:
        for_small = 0 if self._size + size <= _SMALL else self._most // 4
        left = self._most // 2 - self._held[self._caller] - size
        if left < for_small // 2 or not self._pool.take(size, leaving=for_small):
            raise ReelwayError(ErrorReason.TOO_MANY_REQUESTS)
        self._held[self._caller] += size
        self._size += size

    def give_back(self) -> None:
        self._pool.give_back(self._size)
        self._held[self._caller] -= self._size
        if not self._held[self._caller]:
            del self._held[self._caller]


_ROOM = web.RequestKey("room", _Room)


def held_bodies(most_bytes: int) -> Middleware:
    """A middleware under which the requests of this process may hold so many bytes of bodies together.

    A quarter is for small bodies alone, so that a few clients with large ones shut nobody out of the other routes. One
    user may hold half of each part, and all clients without a token together no more, so that nobody shuts out all
    others.
    """
    pool = BytePool(most_bytes, _HELD)
    held = Counter[str]()

    @web.middleware
    async def middleware(request: web.Request, handler: Handler) -> web.StreamResponse:
        room = request[_ROOM] = _Room(most_bytes, pool, held, current_caller().user)
        try:
            return await handler(request)
        finally:
            room.give_back()

    return middleware


def hold(request: web.Request, size: int) -> None:
    """Make room for so many more bytes of this request's body, which is given back at the end of the request.

    Nobody waits for it: the next try may well meet a replica that has room.

    Raises:
        ReelwayError: TOO_MANY_REQUESTS.
    """
    request[_ROOM].grow(size)
