"""Ranged GETs over HTTP/1.1, read from the socket straight into the buffers that travel on.

A general HTTP client copies each byte twice more between socket and caller, and costs four times as much a request;
this one does nothing but a GET whose answer has a known length. Everything else about the store goes through
libraries.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
from collections import deque
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import cast

from aiohappyeyeballs import start_connection
from yarl import URL

_HEAD_BYTES = 2**14
"""Longest head of an answer."""
_FIRST_PIECE = 2**16
_PIECE = 2**18
"""The first piece is small so that the first byte is quick; of the others one is read ahead of the caller."""
LONG = 16 * 2**20
"""Only fast readers ask for ranges this long: more is read ahead for them."""
_LONG_AHEAD = 4
"""So many pieces are read ahead then: each pause costs two system calls."""
_NEXT_ADDRESS_SECONDS = 0.25
"""After so long the next address of the server is tried beside those before it (RFC 8305, 5)."""
_IDLE_SECONDS = 15.0
"""A connection unused for so long is closed: servers drop them at about that age without a word."""
_IDLE_CONNECTIONS = 256
_ERROR_BODY_BYTES = 2**11
_LAST_CHUNK = b"0\r\n\r\n"
_END_OF_HEAD = b"\r\n\r\n"


class BrokenAnswerError(OSError):
    """The connection ended in the middle of an answer, or the answer is not HTTP as this client needs it."""


@dataclass(frozen=True)
class Head:
    """The status line and the headers of an answer; names in lower case."""

    status: int
    headers: dict[bytes, bytes]

    @property
    def length(self) -> int:
        """Bytes of the body; -1 where the answer does not say, or says it in another way."""
        value = self.headers.get(b"content-length", b"")
        # No length has more digits, and of thousands Python makes no number.
        told = value.isdigit() and len(value) < 20 and b"transfer-encoding" not in self.headers
        return int(value) if told else -1


def _parse_head(raw: bytes) -> Head:
    """RFC 9112, sections 4 and 5, without the obsolete line folding."""
    status_line, *lines = raw.split(b"\r\n")
    version, _, rest = status_line.partition(b" ")
    status = rest[:3]
    if not version.startswith(b"HTTP/1.") or not status.isdigit() or len(status) != 3:
        raise BrokenAnswerError("the answer is not HTTP/1")
    headers = {}
    for line in lines:
        name, colon, value = line.partition(b":")
        if not colon or not name or name != name.strip():
            raise BrokenAnswerError("the answer has a broken header")
        headers[name.lower()] = value.strip()
    return Head(int(status), headers)


class _Connection(asyncio.BufferedProtocol):
    """One connection, for one request at a time: the head goes into one buffer, the body into pieces."""

    def __init__(self) -> None:
        self.transport: asyncio.Transport | None = None
        self.idle_since = 0.0
        self.received = 0
        self._loop = asyncio.get_running_loop()
        self._waiter: asyncio.Future[None] | None = None
        self._error: BaseException | None = None
        self._head_buffer = bytearray(_HEAD_BYTES)
        self._paused = False
        self._ready: deque[memoryview] = deque()
        self._begin(0)

    def _begin(self, length: int) -> None:
        """Expect an answer, and of its body `length` bytes where it is the one that was asked for."""
        self._head: Head | None = None
        self._filled = 0
        self._asked = length
        self._missing = 0
        """Bytes of the body for which there is no buffer yet."""
        self._error_from = self._error_end = 0
        """Where in the buffer of the head the body of another answer stands than was asked for."""
        self._piece: memoryview | None = None
        self._next_size = _FIRST_PIECE if length > 2 * _FIRST_PIECE else length
        self._ahead = _LONG_AHEAD if length >= LONG else 1

    # What asyncio calls.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)

    def get_buffer(self, sizehint: int) -> memoryview:
        buffer = self._piece if self._piece is not None else memoryview(self._head_buffer)
        return buffer[self._filled :]

    def buffer_updated(self, nbytes: int) -> None:
        self.received += nbytes
        self._filled += nbytes
        try:
            if self._piece is not None:
                if self._filled == len(self._piece):
                    self._finish_piece(self._piece)
            elif self._head is None and self._asked:
                self._look_for_head()
            elif self._error_from:
                self._look_for_error()
            else:
                raise BrokenAnswerError("bytes that nobody asked for")
        except BrokenAnswerError as error:
            self._fail(error)

    def connection_lost(self, exc: Exception | None) -> None:
        self.transport = None
        self._fail(BrokenAnswerError("the store closed the connection"))

    # The answer.

    def _look_for_head(self) -> None:
        end = self._head_buffer.find(_END_OF_HEAD, 0, self._filled)
        if end < 0:
            if self._filled == _HEAD_BYTES:
                raise BrokenAnswerError("the head of the answer is too long")
            return
        self._head = _parse_head(bytes(self._head_buffer[:end]))
        body = memoryview(self._head_buffer)[end + len(_END_OF_HEAD) : self._filled]
        if self._head.status != 206 or self._head.length != self._asked:
            # Not what was asked for: a beginning of it will tell why, and the connection is not used again.
            self._error_from = end + len(_END_OF_HEAD)
            length = self._head.length if self._head.length >= 0 else _ERROR_BODY_BYTES
            self._error_end = min(self._error_from + min(length, _ERROR_BODY_BYTES), _HEAD_BYTES)
            self._look_for_error()
            return
        self._missing = self._asked
        # What came with the head fits into the first piece, or is the whole answer.
        if len(body) > self._asked:
            raise BrokenAnswerError("the answer is longer than it says")
        self._piece = self._new_piece()
        self._piece[: len(body)] = body
        self._filled = len(body)
        if self._filled == len(self._piece):
            self._finish_piece(self._piece)
        self._wake()

    def _look_for_error(self) -> None:
        if self._has_error:
            self._pause()
        self._wake()

    @property
    def _has_error(self) -> bool:
        """The body of another answer is here, or as much of it as is looked at."""
        ends = self._head_buffer.endswith(_LAST_CHUNK, self._error_from, self._filled)
        return ends or self._filled >= self._error_end

    def _new_piece(self) -> memoryview:
        size = min(self._next_size, self._missing)
        self._next_size = _PIECE
        self._missing -= size
        return memoryview(bytearray(size))

    def _finish_piece(self, piece: memoryview) -> None:
        self._ready.append(piece)
        self._piece, self._filled = None, 0
        if self._missing:
            self._piece = self._new_piece()
            if len(self._ready) >= self._ahead:
                self._pause()
        self._wake()

    def _pause(self) -> None:
        if self.transport is not None:
            self.transport.pause_reading()
            self._paused = True

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    def _fail(self, error: BaseException) -> None:
        if self._error is None:
            self._error = error
        if self._piece is not None and self._filled:
            # A store that breaks off again and again must still get somewhere.
            self._ready.append(self._piece[: self._filled])
        self._piece = None
        self.close()
        self._wake()

    # What the client calls.

    def send(self, request: bytes, length: int) -> None:
        """Ask for a range of `length` bytes."""
        self._begin(length)
        if self.transport is not None:
            self.transport.write(request)

    async def head(self, seconds: float) -> Head:
        """The head of the answer."""
        while self._head is None:
            await self._wait(seconds)
        return self._head

    async def error_body(self, seconds: float) -> bytes:
        """The beginning of the body of another answer than was asked for, as far as it comes."""
        with contextlib.suppress(OSError):
            while not self._has_error:
                await self._wait(seconds)
        return bytes(self._head_buffer[self._error_from : min(self._filled, self._error_end)])

    async def piece(self, seconds: float) -> memoryview:
        """The next piece of the body; `seconds` is how long the store may be silent."""
        while not self._ready:
            await self._wait(seconds)
        if self._paused and self.transport is not None and self._error is None:
            self._paused = False
            self.transport.resume_reading()
        return self._ready.popleft()

    async def _wait(self, seconds: float) -> None:
        if self._error is not None:
            raise self._error
        self._waiter = self._loop.create_future()
        # A fraction of what asyncio.timeout costs, and a seek waits three times.
        alarm = self._loop.call_later(seconds, self._silence, self.received)
        try:
            await self._waiter
        finally:
            alarm.cancel()
            self._waiter = None

    def _silence(self, received: int) -> None:
        if self._waiter is not None and not self._waiter.done():
            if self.received == received:
                self._waiter.set_exception(TimeoutError())
            else:
                self._waiter.set_result(None)

    @property
    def reusable(self) -> bool:
        """The last answer was read to its end, and the server keeps the connection open."""
        return (
            self.transport is not None
            and not self.transport.is_closing()
            and self._head is not None
            and self._head.status == 206
            and self._head.length == self._asked
            and self._head.headers.get(b"connection", b"").lower() != b"close"
            and not (self._missing or self._piece or self._ready)
        )

    def close(self) -> None:
        """End the connection, whatever it is doing."""
        if self.transport is not None:
            self.transport.abort()


class Answer:
    """What came back for a ranged GET."""

    def __init__(self, connection: _Connection, head: Head, length: int, silence_seconds: float) -> None:
        self.head = head
        self._connection, self._length, self._seconds = connection, length, silence_seconds

    async def error_body(self) -> bytes:
        """Where it is not a 206 of the length that was asked for: the beginning of the body, as far as it comes."""
        return await self._connection.error_body(self._seconds)

    async def pieces(self) -> AsyncIterator[memoryview]:
        """The body of a 206 of the length that was asked for, in buffers that nobody else has.

        Raises:
            OSError, TimeoutError: As RangeClient.get; what came before was yielded.
        """
        left = self._length
        while left:
            piece = await self._connection.piece(self._seconds)
            left -= len(piece)
            yield piece


class RangeClient:
    """Connections to one server, used again."""

    def __init__(
        self, origin: URL, connect_seconds: float, read_seconds: float, trusted: ssl.SSLContext | None = None
    ) -> None:
        """`origin` gives scheme, host and port; the system's authorities are `trusted` where no others are given."""
        if origin.host is None or origin.port is None:
            raise ValueError(f"not an address: {origin}")
        self._host, self._port = origin.host, origin.port
        self._ssl = (trusted or ssl.create_default_context()) if origin.scheme == "https" else None
        self._connect_seconds, self._read_seconds = connect_seconds, read_seconds
        self._idle: deque[_Connection] = deque()

    @contextlib.asynccontextmanager
    async def get(self, request: bytes, length: int) -> AsyncIterator[Answer]:
        """Send a ranged GET of `length` bytes, which stands ready in `request`; its answer.

        The connection is used again where the answer was read to its end.

        Raises:
            OSError, TimeoutError: The server cannot be reached, broke off, or was silent for too long.
        """
        connection, head = await self._ask(request, length)
        try:
            yield Answer(connection, head, length, self._read_seconds)
        finally:
            if connection.reusable:
                self._keep(connection)
            else:
                connection.close()

    async def _ask(self, request: bytes, length: int) -> tuple[_Connection, Head]:
        """The answer's head; on another connection where a kept one proves to be closed by the server."""
        while True:
            connection = self._kept()
            fresh = connection is None
            if connection is None:
                connection = await self._connect()
            before = connection.received
            try:
                connection.send(request, length)
                return connection, await connection.head(self._read_seconds)
            except BrokenAnswerError:
                if fresh or connection.received != before:
                    raise
            except BaseException:
                connection.close()
                raise

    async def _connect(self) -> _Connection:
        loop, name = asyncio.get_running_loop(), self._host if self._ssl else None
        async with asyncio.timeout(self._connect_seconds):
            # One address that does not answer, such as IPv6 without a way out, would take all of that time.
            addresses = await loop.getaddrinfo(self._host, self._port, type=socket.SOCK_STREAM)
            made = await start_connection(addresses, happy_eyeballs_delay=_NEXT_ADDRESS_SECONDS)
            _, connection = await loop.create_connection(_Connection, sock=made, ssl=self._ssl, server_hostname=name)
        return connection

    def _kept(self) -> _Connection | None:
        oldest = asyncio.get_running_loop().time() - _IDLE_SECONDS
        while self._idle and self._idle[0].idle_since < oldest:
            self._idle.popleft().close()
        while self._idle:
            connection = self._idle.pop()
            if connection.transport is not None and not connection.transport.is_closing():
                return connection
        return None

    def _keep(self, connection: _Connection) -> None:
        connection.idle_since = asyncio.get_running_loop().time()
        self._idle.append(connection)
        if len(self._idle) > _IDLE_CONNECTIONS:
            self._idle.popleft().close()

    def close(self) -> None:
        """End every idle connection; those in use end with their answers."""
        while self._idle:
            self._idle.popleft().close()
