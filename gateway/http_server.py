"""What aiohttp's server does before any middleware is asked, as we want it.

It answers requests that it cannot even parse as text, with its own name and without a request's id; and it leaves a
connection's buffers and its patience to the kernel. It has no setting for any of it, so its protocol class is ours,
from the runner down.
"""

from __future__ import annotations

import asyncio
import socket
import struct
import termios
from http import HTTPStatus
from typing import Any

from aiohttp import HttpVersion11, StreamReader, hdrs, web
from aiohttp.http_exceptions import BadHttpMessage, HttpProcessingError, InvalidURLError, LineTooLong
from aiohttp.streams import EMPTY_PAYLOAD
from aiohttp.web_protocol import RequestHandler, _ErrInfo

from gateway.broken_off import WRITE_TIMEOUT_S
from gateway.idle_connections import is_queued
from gateway.middleware import REQUESTS
from gateway.unread_answers import UnreadAnswers
from services.common import logs
from services.common.caller import new_request_id

log = logs.get_logger(__name__)

_NEAR_MICROSECONDS = 1000
_NEAR_SEND_BUFFER = 2**19
"""The kernel doubles it, and gives less where net.core.wmem_max is lower."""
_WAITING_CONNECTIONS = 1024
"""The kernel gives less where net.core.somaxconn is lower."""
_LONGEST_TARGET = 8191
"""One more than a header's: the limit is all that aiohttp's error tells of which of them was too long."""
_TOO_MANY_HEADERS = "Too many headers received"
"""More than 128; nothing else of aiohttp's error tells."""
_LONGEST_HEAD = 2**16
"""Of headers, or of trailers, that are not all here. Each of 128 may have 8 KiB: who ends none keeps a MiB for nothing.
"""
_ROUND_TRIP_AT = 68
"""Where linux/tcp.h has tcpi_rtt, in microseconds, in struct tcp_info."""


def _bound_patience(connection: socket.socket) -> None:
    """Let the kernel end a connection whose peer has taken nothing for as long as a viewer may take for one batch.

    Without this it keeps what nobody reads for as long as the peer's kernel answers (RFC 9293, 3.8.6.1): the end of an
    answer whose handler is done, which nothing here watches any more.
    """
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, int(WRITE_TIMEOUT_S * 1000))


def _bound_send_buffer(connection: socket.socket) -> None:
    """Keep the kernel from holding 4 MiB for a client that a few hundred KiB under way suffice for.

    Those are counted as ours where memory is limited, whoever stalls keeps them, and bytes that wait in a queue that
    long have left the processor's caches when they are read (measured: a sixth more speed of hot ranges). To a client
    who is far away they are the speed itself, so the kernel goes on choosing there: the handshake tells how far.
    """
    info = connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _ROUND_TRIP_AT + 4)
    # 0 is a handshake that was not timed, as with SYN cookies.
    if 0 < struct.unpack_from("=I", info, _ROUND_TRIP_AT)[0] <= _NEAR_MICROSECONDS:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _NEAR_SEND_BUFFER)


def _why(error: BaseException | None) -> str:
    """What is wrong. What follows a colon in aiohttp's messages is left out: it quotes the request, with its token."""
    if isinstance(error, InvalidURLError):
        return "InvalidURLError"  # its whole message is the target
    said = error.message.partition(":")[0] if isinstance(error, HttpProcessingError) else error
    return f"{type(error).__name__}: {said}"[:200]


class _Protocol(RequestHandler):
    __slots__ = ("_head_bytes", "_last_body", "_unread")

    def __init__(self, server: web.Server, *, unread: UnreadAnswers, **more: Any) -> None:
        super().__init__(server, **more)
        self._unread = unread

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._last_body: StreamReader = EMPTY_PAYLOAD
        self._head_bytes = 0
        super().connection_made(transport)
        connection = transport.get_extra_info("socket")
        _bound_send_buffer(connection)
        _bound_patience(connection)

    def pause_writing(self) -> None:
        super().pause_writing()
        if self.transport is not None:
            self._unread.begin(self.transport)

    def resume_writing(self) -> None:
        super().resume_writing()
        if self.transport is not None:
            self._unread.end(self.transport)

    def connection_lost(self, exc: BaseException | None) -> None:
        if self.transport is not None:
            self._unread.end(self.transport)
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Bound headers and trailers that do not end, and tell whoever reads a body when its framing breaks.

        aiohttp keeps the latter for the time after this request, whose reader would wait until its patience ends.
        """
        if self._is_broken():
            return  # Each error would be kept, and quotes what it is about.
        requests, of_body = len(self._messages), self._last_body.total_bytes
        super().data_received(data)
        is_head = len(self._messages) == requests and self._last_body.total_bytes == of_body
        self._head_bytes = self._head_bytes + len(data) if is_head else 0
        if self._head_bytes > _LONGEST_HEAD:
            self._refuse(BadHttpMessage(_TOO_MANY_HEADERS))
        if self._is_broken():
            if not self._last_body.is_eof():
                self._last_body.set_exception(web.RequestPayloadError("broken framing"))
        elif self._messages:
            self._last_body = self._messages[-1][1]

    def _refuse(self, error: HttpProcessingError) -> None:
        """As if the parser had found it."""
        self._messages.append((_ErrInfo(status=400, exc=error, message=error.message), EMPTY_PAYLOAD))
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    def _is_broken(self) -> bool:
        """Whether something came that is no request; nothing behind it can be one."""
        return bool(self._messages) and isinstance(self._messages[-1][0], _ErrInfo)

    async def finish_response(
        self, request: web.BaseRequest, resp: web.StreamResponse, start_time: float | None
    ) -> tuple[web.StreamResponse, bool]:
        """End the connection where what would come next could be misread, and where that is what ends the answer.

        aiohttp's parser (3.14.5) has the last trailer of a chunked body among the headers of the next request, which
        may be somebody else's where a proxy is in front. It loses a request behind one with Upgrade, whose sender would
        take the answer to a later one for it. It takes for a request what comes behind CONNECT, be it announced as a
        body. Who is answered before all of a body is here may send its next request in the place of the rest: clients
        that wait for 100 Continue, and proxies whose own client has gone (HAProxy 2.6 with HTTP/2), where it may be
        somebody else's. And whom aiohttp promised the end in HTTP/1.0, it lets wait for it.
        """
        of_unknown_length = request.version < HttpVersion11 and resp.content_length is None
        misread = hdrs.TRANSFER_ENCODING in request.headers or hdrs.UPGRADE in request.headers
        if of_unknown_length or misread or not request.content.is_eof() or request.method == hdrs.METH_CONNECT:
            resp.force_close()
        return await super().finish_response(request, resp, start_time)

    def _process_keepalive(self) -> None:
        """End it, for it was idle too long; not where its next request is here, and the loop has not come to it."""
        if is_queued(self.transport, termios.FIONREAD):
            self._keepalive_handle = None  # as in aiohttp's own, which begins a new one behind the answer
        else:
            super()._process_keepalive()

    def has_unsent(self) -> bool:
        """Whether the client has not acknowledged all of its answers."""
        if self.transport is None:
            return False
        if self.transport.get_write_buffer_size():
            return True
        return is_queued(self.transport, termios.TIOCOUTQ)

    def log_exception(self, *args: Any, **kw: Any) -> None:
        """Not what a body was refused with already: aiohttp meets it again when it skips the rest behind the answer."""
        if not isinstance(kw.get("exc_info"), web.RequestPayloadError | web.HTTPRequestTimeout):
            super().log_exception(*args, **kw)

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        """The answer to what is hardly HTTP, behind which the connection ends, or to what nobody could handle."""
        if request.writer.output_size > 0:
            raise ConnectionError("an answer has begun already")
        if isinstance(exc, LineTooLong):
            status = 414 if exc.args[1] == _LONGEST_TARGET else 431
        elif isinstance(exc, HttpProcessingError) and exc.message == _TOO_MANY_HEADERS:
            status = 431
        request_id = new_request_id()
        REQUESTS.labels("unknown", "other", str(status), "").inc()
        log.info("request refused", status=status, request_id=request_id, why=_why(exc))
        return web.json_response(
            {"detail": HTTPStatus(status).phrase},
            status=status,
            headers={"X-Request-Id": request_id, "Server": "Reelway", "Cache-Control": "no-store"},
        )


class _Server(web.Server):
    def __call__(self) -> RequestHandler:
        # See gateway/content_encoding.py.
        return _Protocol(self, loop=self._loop, auto_decompress=False, max_line_size=_LONGEST_TARGET, **self._kwargs)


class Runner(web.AppRunner):
    """An AppRunner whose server refuses as the application does, and knows what it has not sent yet."""

    def __init__(self, app: web.Application, *, unread_bytes: int, **more: Any) -> None:
        """All connections whose clients do not take their answers may hold `unread_bytes` together."""
        super().__init__(app, unread=UnreadAnswers(unread_bytes), **more)

    async def listen(self, host: str, port: int, *, shared: bool = False) -> None:
        """Accept connections; on a port that others listen on, too, if `shared`. OSError where that cannot be.

        What comes while the loop is at something else waits: with aiohttp's 128, a burst that one long step keeps
        waiting has its connections reset (by the kernel's SYN cookies), or tried again a second later.
        """
        await web.TCPSite(self, host, port, backlog=_WAITING_CONNECTIONS, reuse_port=shared).start()

    def has_unsent(self) -> bool:
        """Whether any client waits for bytes that only this process, or the kernel on its behalf, has."""
        connections = self.server.connections if self.server else []
        return any(isinstance(connection, _Protocol) and connection.has_unsent() for connection in connections)

    async def _make_server(self) -> web.Server:
        server = await super()._make_server()
        server.__class__ = _Server
        return server
