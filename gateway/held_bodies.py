"""The memory of all bodies that are held until they are whole, such as JSON, under one bound.

Without it a few clients could fill a process: of a compressed body a KB from the network is a MB here.
"""

from __future__ import annotations

from aiohttp import web
from aiohttp.typedefs import Handler, Middleware
from prometheus_client import Gauge

from services.common.byte_pool import BytePool
from services.common.error_catalog import ErrorReason
from services.common.errors import ReelwayError

LARGEST = 16 * 2**20
"""Bytes of the largest body that any route holds."""

_HELD = Gauge("reelway_held_body_bytes", "Bytes of request bodies that are held until they are whole")
_SMALL = 2**16


class _Room:
    """What one request holds."""

    def __init__(self, pool: BytePool, for_small: int) -> None:
        self._pool, self._for_small = pool, for_small
        self.size = 0

    def grow(self, size: int) -> None:
        if not self._pool.take(size, leaving=0 if self.size + size <= _SMALL else self._for_small):
            raise ReelwayError(ErrorReason.TOO_MANY_REQUESTS)
        self.size += size


_ROOM = web.RequestKey("room", _Room)


def held_bodies(most_bytes: int) -> Middleware:
    """A middleware under which the requests of this process may hold so many bytes of bodies together.

    A quarter is for small bodies alone, so that a few clients with large ones shut nobody out of the other routes.
    """
    pool = BytePool(most_bytes, _HELD)

    @web.middleware
    async def middleware(request: web.Request, handler: Handler) -> web.StreamResponse:
        room = request[_ROOM] = _Room(pool, for_small=most_bytes // 4)
        try:
            return await handler(request)
        finally:
            pool.give_back(room.size)

    return middleware


def hold(request: web.Request, size: int) -> None:
    """Make room for so many more bytes of this request's body, which is given back at the end of the request.

    Nobody waits for it: the next try may well meet a replica that has room.

    Raises:
        ReelwayError: TOO_MANY_REQUESTS.
    """
    request[_ROOM].grow(size)
