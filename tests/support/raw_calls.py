"""A client that speaks as much HTTP/2 as it takes to be a bad one: it sends a part of a call, or takes no answer."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from services.common import tasks

_DATA, _HEADERS, _SETTINGS, _PING = 0, 1, 4, 6
_END_STREAM, _ACK, _END_HEADERS = 1, 1, 4
_NO_WINDOW = b"\0\x04\0\0\0\0"
"""SETTINGS_INITIAL_WINDOW_SIZE: 0."""


def _frame(kind: int, flags: int, stream: int, payload: bytes = b"") -> bytes:
    return len(payload).to_bytes(3, "big") + bytes([kind, flags]) + stream.to_bytes(4, "big") + payload


class RawCalls:
    """One connection; of its calls' answers it lets the headers come, and none of the bytes."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self._writer = reader, writer
        self._stream, self._ends = -1, asyncio.Semaphore(0)
        writer.write(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + _frame(_SETTINGS, 0, 0, _NO_WINDOW))

    def begin(self, method: str, message: bytes | None = None, *, ends: bool = False) -> None:
        """A call of `/package.Service/Method` with a message, or without one; it `ends` there, or more may follow."""
        self._stream += 2
        names = {":method": "POST", ":scheme": "http", ":path": method, ":authority": "a", "te": "trailers"}
        names["content-type"] = "application/grpc"
        # Literals, not indexed (RFC 7541, 6.2.2), none of them longer than 126 bytes.
        texts = (text.encode() for pair in names.items() for text in pair)
        lengths_and_texts = [bytes([len(text)]) + text for text in texts]
        headers = b"".join(b"\0" + name + value for name, value in zip(*[iter(lengths_and_texts)] * 2, strict=True))
        end = _END_STREAM if ends else 0
        self._writer.write(_frame(_HEADERS, _END_HEADERS | (end if message is None else 0), self._stream, headers))
        if message is not None:
            self._writer.write(_frame(_DATA, end, self._stream, b"\0" + len(message).to_bytes(4, "big") + message))

    async def ended(self) -> None:
        """Wait until one more call is answered to its end."""
        await self._ends.acquire()

    async def read(self) -> None:
        """Take what comes, until the connection ends; a server that ends waits 20 s for the answer to its ping."""
        while True:
            head = await self._reader.readexactly(9)
            payload = await self._reader.readexactly(int.from_bytes(head[:3], "big"))
            kind, flags = head[3:5]
            if kind == _HEADERS and flags & _END_STREAM:
                self._ends.release()
            elif kind == _PING and not flags & _ACK:
                self._writer.write(_frame(_PING, _ACK, 0, payload))


@asynccontextmanager
async def raw_calls(address: str) -> AsyncIterator[RawCalls]:
    """A connection to a gRPC server at `host:port`."""
    host, _, port = address.rpartition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    calls = RawCalls(reader, writer)
    reading = asyncio.create_task(calls.read())
    # It breaks where the server ends the connection.
    reading.add_done_callback(tasks.look_at)
    try:
        yield calls
    finally:
        await tasks.end(reading)
        writer.close()
