"""A small aiohttp server around one handler, and a client that sees every byte."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass

from aiohttp import web

from gateway.held_bodies import held_bodies
from gateway.http_server import Runner
from gateway.request_body import defer_continue


@contextlib.asynccontextmanager
async def serving(
    handler: Callable[[web.Request], Awaitable[web.StreamResponse]], *, unread_bytes: int = 2**32
) -> AsyncIterator[int]:
    """Serve `handler` on every path and method; yields the port."""
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", handler, expect_handler=defer_continue)
    async with serving_app(app, unread_bytes=unread_bytes) as port:
        yield port


@contextlib.asynccontextmanager
async def serving_app(
    app: web.Application, held_bytes: int = 2**27, *, unread_bytes: int = 2**32
) -> AsyncIterator[int]:
    """Serve `app`, which may hold so many bytes of bodies, and of untaken answers, at once; yields the port."""
    app.middlewares.append(held_bodies(held_bytes))
    runner = Runner(app, unread_bytes=unread_bytes, handler_cancellation=True, shutdown_timeout=0.1)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        yield runner.addresses[0][1]
    finally:
        await runner.cleanup()


@dataclass
class Answer:
    """A response as it was on the wire."""

    status: int
    headers: dict[str, str]
    body: bytes


class Wire:
    """One connection, kept alive between requests."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    async def send(self, method: str, path: str = "/", *headers: str, body: bytes = b"", host: str = "test") -> None:
        lines = [f"{method} {path} HTTP/1.1", f"Host: {host}", *headers, "", ""]
        self.writer.write("\r\n".join(lines).encode("latin-1") + body)
        await self.writer.drain()

    def stop_reading(self) -> None:
        """Take nothing more from the network."""
        assert isinstance(self.writer.transport, asyncio.Transport)
        self.writer.transport.pause_reading()

    async def head(self) -> Answer:
        """Status and headers of the next response; the body stays unread."""
        raw = await self.reader.readuntil(b"\r\n\r\n")
        status_line, *lines = raw.decode("latin-1").split("\r\n")[:-2]
        pairs = [line.split(": ", 1) for line in lines]
        assert len({name.lower() for name, _ in pairs}) == len(pairs), f"a header twice: {pairs}"
        return Answer(int(status_line.split()[1]), {name.lower(): value for name, value in pairs}, b"")

    async def ask(self, method: str, path: str = "/", *headers: str, body: bytes = b"", host: str = "test") -> Answer:
        """One whole exchange; raises IncompleteReadError where the body breaks off."""
        await self.send(method, path, *headers, body=body, host=host)
        answer = await self.head()
        if method != "HEAD" and answer.status not in (204, 304):
            answer.body = await self.reader.readexactly(int(answer.headers["content-length"]))
        return answer


@contextlib.asynccontextmanager
async def wire(port: int) -> AsyncIterator[Wire]:
    """A connection to `port` on this machine."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        yield Wire(reader, writer)
    finally:
        writer.close()
        with contextlib.suppress(ConnectionError):
            await writer.wait_closed()
