"""The memory of all bodies that are held until they are whole, such as JSON, under one bound.

Without it a few clients could fill a process: of a compressed body a KB from the network is a MB here.
"""

from __future__ import annotations

from types import TracebackType

from aiohttp import web
from aiohttp.typedefs import Handler
from prometheus_client import Gauge

from services.common.byte_pool import BytePool
from services.common.error_catalog import ErrorReason
from services.common.errors import ReelwayError

LARGEST = 16 * 2**20
"""Bytes of the largest body that any route holds."""

_HELD = Gauge("reelway_held_body_bytes", "Bytes of request bodies that are held until they are whole")
_SMALL = 2**16


class HeldBodies:
    """Bytes of bodies that the requests of this process may hold together.

    A quarter is for small bodies alone, so that a few clients with large ones shut nobody out of the other routes.
    """

    def __init__(self, most_bytes: int) -> None:
        self._pool = BytePool(most_bytes, _HELD)
        self._for_small = most_bytes // 4

    @web.middleware
    async def middleware(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """Has what a request holds given back at its end."""
        with _Room(self._pool, self._for_small) as request[_ROOM]:
            return await handler(request)


class _Room:
    """What one request holds, until the end of the context."""

    def __init__(self, pool: BytePool, for_small: int) -> None:
        self._pool, self._for_small = pool, for_small
        self._size = 0

    def grow(self, size: int) -> None:
        if not self._pool.take(size, leaving=0 if self._size + size <= _SMALL else self._for_small):
            raise ReelwayError(ErrorReason.TOO_MANY_REQUESTS)
        self._size += size

    def __enter__(self) -> _Room:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._pool.give_back(self._size)


_ROOM = web.RequestKey("room", _Room)


def hold(request: web.Request, size: int) -> None:
    """Make room for so many more bytes of this request's body, which is given back at the end of the request.

    Nobody waits for it: the next try may well meet a replica that has room.

    Raises:
        ReelwayError: TOO_MANY_REQUESTS.
    """
    request[_ROOM].grow(size)
