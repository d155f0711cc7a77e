"""The raw body of a request as chunks: bounded in size, bounded in patience, and honest about its end.

`Expect: 100-continue` is answered when the body is first asked for, not before the handler runs: a client that
waits for it (curl does above 1 MiB) learns of a 401, 404 or 413 without sending its video.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator
from functools import partial
from typing import Self

from aiohttp import StreamReader, hdrs, web

from gateway.content_encoding import DecodedContent, content_of
from gateway.held_bodies import LARGEST, hold
from gateway.invalid_request import InvalidRequestError
from gateway.stall_watch import StallWatch
from services.common.error_catalog import ErrorReason
from services.common.errors import ReelwayError

#: Seconds without a byte after which a client is given up.
IDLE_TIMEOUT_S = 60.0
#: Bytes a second that must have come from the network on average after a body's first minute.
SLOWEST_RATE = 1024
GRACE_S = 60.0
#: Seconds for a body that is held until it is whole, and one more for so many bytes as it announces.
WHOLE_BODY_S = 60.0
HELD_RATE = 2**14


class ClientGoneError(Exception):
    """The connection broke before the body was whole: nobody is left to be answered."""


class RequestBody:
    """Reads the body of one request.

    Args:
        request: the request; nothing else may have read its body.
        max_size: bytes that the body may have, None for no limit.
        idle_timeout: seconds to wait for the next bytes.
        grace: seconds after which a body must have come at SLOWEST_RATE on average, from then on; a client that sends
            a byte a minute would otherwise hold an upload open for ever.
    """

    def __init__(
        self,
        request: web.Request,
        *,
        max_size: int | None = None,
        idle_timeout: float = IDLE_TIMEOUT_S,
        grace: float = GRACE_S,
    ) -> None:
        self._request = request
        self._content = content_of(request)
        self._max_size = max_size
        self._watch = StallWatch(idle_timeout, partial(_give_up, self._content))
        self._clock = asyncio.get_running_loop().time
        self._slow_from = self._clock() + grace
        self._begun = False
        self._received = 0
        self._newest = 0
        self._held = False
        self._deadline: float | None = None

    def hold(self) -> Self:
        """What was read last and all that follows is held: it takes room of `held_bodies`, and has a deadline.

        Raises:
            ReelwayError: TOO_MANY_REQUESTS.
        """
        hold(self._request, self._newest)
        self._held = True
        announced = min(self._request.content_length or 0, LARGEST)
        self._deadline = self._clock() + WHOLE_BODY_S + announced / HELD_RATE
        return self

    async def read(self) -> bytes:
        """The next bytes, as they came from the network, decoded; b"" at the end.

        Raises:
            ReelwayError: FILE_TOO_LARGE, before anything is read where Content-Length tells; TOO_MANY_REQUESTS where
                there is no room to hold it.
            ClientGoneError: the connection broke.
            InvalidRequestError: the body is not what its headers say.
            web.HTTPRequestTimeout: nothing came for `idle_timeout`, too little in all, or not the whole in time.
        """
        if not self._begun:
            self._begun = True
            self._check_size(self._request.content_length or 0)
            await send_continue(self._request)
        data = b""
        self._watch.begin()
        try:
            async with asyncio.timeout_at(self._deadline):
                data = await self._content.readany()
        except ConnectionError as error:
            raise ClientGoneError from error
        except web.RequestPayloadError:
            raise InvalidRequestError.undecodable() from None
        except TimeoutError:
            raise web.HTTPRequestTimeout from None
        finally:
            self._watch.end()
            if not data:
                # The body has ended or broken off. Otherwise the timers of a minute's requests would pile up.
                self._watch.close()
        # A piece of a compressed body may be a byte or two, in an object many times as large.
        self._newest = sys.getsizeof(data)
        self._received += len(data)
        self._check_size(self._received)
        if data and self._held:
            hold(self._request, self._newest)
        if data and self._request.content.total_bytes < (self._clock() - self._slow_from) * SLOWEST_RATE:
            raise web.HTTPRequestTimeout
        return data

    def _check_size(self, size: int) -> None:
        if self._max_size is not None and size > self._max_size:
            raise ReelwayError(ErrorReason.FILE_TOO_LARGE)

    async def __aiter__(self) -> AsyncIterator[bytes]:
        """All of the body."""
        while data := await self.read():
            yield data


def _give_up(content: StreamReader | DecodedContent) -> None:
    content.set_exception(web.HTTPRequestTimeout())


async def defer_continue(request: web.Request) -> None:
    """An aiohttp expect handler that does nothing: it is asked before any middleware. See `send_continue`."""


def check_expectation(request: web.Request) -> None:
    """Refuse what a server may refuse to promise (RFC 9110, section 10.1.1).

    Raises:
        web.HTTPExpectationFailed: anything but 100-continue is expected.
    """
    if request.headers.get(hdrs.EXPECT, "100-continue").lower() != "100-continue":
        raise web.HTTPExpectationFailed


async def send_continue(request: web.Request) -> None:
    """Tell a client that waits for it to send its body; harmless for every other."""
    if hdrs.EXPECT in request.headers and request.version >= (1, 1) and not request.content.total_bytes:
        await request.writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        # Not part of the response: aiohttp counts what was sent to know whether one has begun.
        request.writer.output_size = 0
