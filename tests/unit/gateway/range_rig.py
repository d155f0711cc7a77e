"""A video of a million bytes, its readers, and viewers of `respond`'s answers."""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import AsyncGenerator, AsyncIterator
from datetime import UTC, datetime

from aiohttp import web

from gateway.broken_off import BROKEN_OFF
from gateway.range_response import Batch, Read, Representation, respond
from tests.support.http_server import Wire, serving, wire

DATA = random.Random(9110).randbytes(1_000_003)
SIZE = len(DATA)
REPRESENTATION = Representation(
    size=SIZE,
    etag='"v1"',
    modify_time=datetime(2024, 5, 6, 7, 8, 9, 5, tzinfo=UTC),
    content_type="video/mp4",
    disposition='inline; filename="a.mp4"',
)


class Reader:
    """Reads DATA in odd chunks; remembers what was asked for and whether each read was brought to its end."""

    def __init__(self) -> None:
        self.asked: list[tuple[int, int]] = []
        self.open = 0

    async def __call__(self, offset: int, length: int) -> AsyncGenerator[Batch, None]:
        self.asked.append((offset, length))
        self.open += 1
        try:
            position = offset
            while position < offset + length:
                end = min(position + 65_537, offset + length)
                yield (memoryview(DATA)[position:end],)
                position = end
                await asyncio.sleep(0)
        finally:
            self.open -= 1


@contextlib.asynccontextmanager
async def viewer(
    read: Read,
    representation: Representation = REPRESENTATION,
    write_timeout: float = 20,
    broken_off: list[int] | None = None,
) -> AsyncIterator[Wire]:
    async def handler(request: web.Request) -> web.StreamResponse:
        try:
            return await respond(request, representation, read, write_timeout=write_timeout)
        finally:
            left_open.append(read.open if isinstance(read, Reader) else 0)
            if broken_off is not None:
                broken_off.append(request.get(BROKEN_OFF, 0))

    left_open: list[int] = []
    async with serving(handler) as port, wire(port) as connection:
        yield connection
    assert not any(left_open), "a reader is closed before its request is over, not when it is collected"
