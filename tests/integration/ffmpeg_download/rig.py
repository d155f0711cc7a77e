"""A file server with bad habits, and a resolver that says what a test wants."""

from __future__ import annotations

import asyncio
import gzip

from aiohttp import web
from aiohttp.abc import AbstractResolver, ResolveResult

from services.ffmpeg.download import DownloadLimits

BODY = bytes(range(256)) * 4096
LIMITS = DownloadLimits(
    max_bytes=2**20, total_seconds=30, connect_seconds=1, idle_seconds=1, min_bytes_per_second=10_000, grace_seconds=0.5
)


class Server:
    """A file server with bad habits, and what it was asked."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.headers: list[dict[str, str]] = []
        self.port = 0

    async def answer(self, request: web.Request) -> web.StreamResponse:
        self.asked.append(request.raw_path)
        self.headers.append(dict(request.headers))
        match request.path:
            case "/file" | "/file (1).mp4":
                return web.Response(body=BODY, headers={"Set-Cookie": "session=anna; Path=/"})
            case "/empty":
                return web.Response(body=b"")
            case "/redirect":
                return web.Response(
                    status=int(request.query.get("code", 302)), headers={"Location": request.query["to"]}
                )
            case "/chain":
                left = int(request.query["n"])
                raise web.HTTPFound(f"/chain?n={left - 1}" if left > 1 else "/file")
            case "/gzip":
                return web.Response(body=gzip.compress(bytes(10**6)), headers={"Content-Encoding": "gzip"})
            case "/long":
                return web.Response(body=BODY + b"x")
            case "/status":
                return web.Response(status=int(request.query["code"]), text="SECRET BODY")
            case _:
                return await self._stream(request)

    async def _stream(self, request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        if request.path == "/cut":
            response.content_length = 10**6
        await response.prepare(request)
        try:
            match request.path:
                case "/endless":
                    for _ in range(1000):
                        await response.write(bytes(65536))
                case "/slow":
                    for _ in range(100):
                        await response.write(b"x" * 100)
                        await asyncio.sleep(0.05)
                case "/stalled":
                    await response.write(b"x")
                    await asyncio.sleep(5)
                case "/cut":
                    await response.write(b"x" * 1000)
                    if request.transport is not None:
                        request.transport.abort()
        except ConnectionError:
            pass
        return response


class Answers(AbstractResolver):
    """A resolver that gives a list of answers, one a question."""

    def __init__(self, *answers: tuple[str, ...]) -> None:
        self._answers = list(answers)
        self.asked = 0

    async def resolve(self, host: str, port: int = 0, family: int = 0) -> list[ResolveResult]:
        self.asked += 1
        hosts = self._answers.pop(0)
        return [ResolveResult(hostname=host, host=one, port=port, family=2, proto=6, flags=0) for one in hosts]

    async def close(self) -> None:
        """Nothing is held."""
