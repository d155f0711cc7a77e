"""A TCP proxy on loopback that breaks what goes through it, as told, and an address that does not answer."""

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from urllib.parse import urlsplit

_CHUNK = 2**16


class ChaosProxy:
    """Passes connections on to one address, unless and until it was told otherwise.

    Attributes:
        url: where it listens, as http://host:port.
        connections: how many were accepted so far.
    """

    def __init__(self, target_host: str, target_port: int) -> None:
        self._target = (target_host, target_port)
        self._server: asyncio.Server | None = None
        self._open: dict[asyncio.Task[None], tuple[asyncio.StreamWriter, ...]] = {}
        self._up_limits: list[int] = []
        self._down_limits: list[int] = []
        self._refusing = False
        self._down_left: float = float("inf")
        self.url = ""
        self.connections = 0

    def break_uploads(self, *after_bytes: int) -> None:
        """Cuts the next connections that send so much towards the server, each after its number of bytes."""
        self._up_limits += after_bytes

    def break_downloads(self, *after_bytes: int) -> None:
        """Cuts the next connections that get so much from the server, each after its number of bytes."""
        self._down_limits += after_bytes

    @property
    def unused(self) -> int:
        """Breaks that were asked for and have not happened."""
        return len(self._up_limits) + len(self._down_limits)

    def go_down(self) -> None:
        """Cuts every connection, and each new one at once."""
        self._refusing = True
        self.cut()

    def go_down_after(self, download_bytes: int) -> None:
        """The same, as soon as so many bytes more have come from the server, on whichever connections."""
        self._down_left = download_bytes

    def come_back(self) -> None:
        """Passes connections on again."""
        self._refusing, self._down_left = False, float("inf")

    def turn_to(self, url: str) -> None:
        """Passes new connections on to another server; those that are there stay where they are."""
        parts = urlsplit(url)
        assert parts.hostname is not None
        assert parts.port is not None
        self._target = (parts.hostname, parts.port)

    def cut(self) -> None:
        """Cuts every connection there is."""
        for writers in self._open.values():
            for writer in writers:
                writer.transport.abort()

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        if self._refusing:
            writer.transport.abort()
            return
        try:
            up_reader, up_writer = await asyncio.open_connection(*self._target, limit=_CHUNK)
        except OSError:
            writer.transport.abort()
            return
        task = asyncio.current_task()
        assert task is not None
        self._open[task] = (writer, up_writer)
        try:
            await asyncio.gather(
                self._pump(reader, up_writer, self._up_limits), self._pump(up_reader, writer, self._down_limits)
            )
        except (OSError, _CutError):
            pass
        finally:
            writer.transport.abort()
            up_writer.transport.abort()
            del self._open[task]

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, limits: list[int]) -> None:
        passed = 0
        while data := await reader.read(_CHUNK):
            passed += len(data)
            if limits and passed >= limits[0]:
                limits.pop(0)
                raise _CutError
            if limits is self._down_limits:
                self._down_left -= len(data)
                if self._down_left <= 0:
                    self.go_down()
            writer.write(data)
            await writer.drain()
        with contextlib.suppress(OSError, RuntimeError):
            writer.write_eof()

    async def _start(self) -> None:
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0, limit=_CHUNK)
        host, port = self._server.sockets[0].getsockname()[:2]
        self.url = f"http://{host}:{port}"

    async def _stop(self) -> None:
        assert self._server is not None
        self._server.close()
        self.cut()
        for task in list(self._open):
            await asyncio.wait([task])


class _CutError(Exception):
    """The connection has had its bytes."""


@asynccontextmanager
async def chaos_proxy(target_url: str) -> AsyncIterator[ChaosProxy]:
    """A proxy in front of the server at a URL (or host:port)."""
    parts = urlsplit(target_url if "//" in target_url else f"//{target_url}")
    assert parts.hostname is not None
    assert parts.port is not None
    proxy = ChaosProxy(parts.hostname, parts.port)
    await proxy._start()
    try:
        yield proxy
    finally:
        await proxy._stop()


@contextlib.contextmanager
def silent_address(port: int = 0) -> Iterator[tuple[str, int]]:
    """Where connections are neither taken nor refused."""
    with socket.socket() as silent, contextlib.ExitStack() as waiting:
        silent.bind(("127.0.0.2", port))
        silent.listen(0)
        for _ in range(4):
            # Those that find no room are left without an answer.
            one = waiting.enter_context(socket.socket())
            one.setblocking(False)
            one.connect_ex(silent.getsockname())
        yield silent.getsockname()
