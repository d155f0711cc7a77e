"""Lets go of connections on which no request comes: the HTTP server itself waits for ever for a first one.

A client that sends its headers byte by byte is such a connection, too: a request counts from its last header line.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import termios

from aiohttp import web

from services.common import logs

log = logs.get_logger(__name__)

_LOOK_SECONDS = 1.0


def is_queued(transport: asyncio.BaseTransport | None, way: int) -> bool:
    """Whether the kernel has bytes of a connection: TIOCOUTQ, that go out; FIONREAD, that came in."""
    try:
        return any(fcntl.ioctl(transport.get_extra_info("socket").fileno(), way, bytes(4))) if transport else False
    except (OSError, ValueError):  # closed, which we are told of a moment later
        return False


class IdleConnections:
    """Knows since when each connection waits for a request; told of requests by the middleware."""

    def __init__(self, first_request_seconds: float, next_request_seconds: float) -> None:
        """The time that a new connection gets for its first request, and any other one for its next."""
        self._first = first_request_seconds
        # aiohttp ends idle ones first, for it knows which requests it has read and not begun yet.
        self._behind_answer = next_request_seconds + _LOOK_SECONDS
        self._deadlines: dict[object, float] = {}
        self._ended = asyncio.Event()

    def request_began(self, connection: object) -> None:
        """A request's headers are here."""
        self._deadlines[connection] = float("inf")

    def request_ended(self, connection: object) -> None:
        """Its handler is done; the response may still be on its way."""
        self._deadlines[connection] = asyncio.get_running_loop().time() + self._behind_answer
        self._ended.set()

    async def until_none_is_busy(self, seconds: float) -> None:
        """Return once no request is under way, or after `seconds`."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                while float("inf") in self._deadlines.values():
                    self._ended.clear()
                    await self._ended.wait()

    async def watch(self, server: web.Server) -> None:
        """For ever: close connections of `server` that have waited too long."""
        loop = asyncio.get_running_loop()
        while True:
            now, open_ones = loop.time(), server.connections
            deadlines: dict[object, float] = {
                connection: self._deadlines.get(connection, now + self._first) for connection in open_ones
            }
            self._deadlines = deadlines
            for connection in open_ones:
                if deadlines[connection] > now or connection.transport is None:
                    continue
                if connection.transport.get_write_buffer_size():
                    # The answer is on its way; where its client takes nothing any more, the kernel ends the connection.
                    deadlines[connection] = now + self._behind_answer
                elif not is_queued(connection.transport, termios.FIONREAD):
                    log.debug("closing an idle connection")
                    connection.transport.abort()
            await asyncio.sleep(min(_LOOK_SECONDS, self._first))
