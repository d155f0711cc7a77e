"""Fetches a client's input into a job's folder, from public addresses alone.

Each socket is vetted at the moment it is made, with the address it will dial: literals, names, redirects and second
answers of a resolver all pass there. Redirects are followed by hand, so that each address is looked at as the first.
ffmpeg itself never sees the network.
"""

from __future__ import annotations

import asyncio
import os
import socket
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote, urljoin

import aiohttp
from aiohttp.abc import AbstractResolver, ResolveResult
from yarl import URL

from services.common import logs, tasks
from services.ffmpeg.addresses import AddressPolicy, AddressRefused

log = logs.get_logger(__name__)

_REDIRECTS = frozenset({301, 302, 303, 307, 308})
_TRY_AGAIN = frozenset({408, 425, 429, 500, 502, 503, 504})
_CHUNK = 256 * 1024
_LOOKUPS = 64
_MOST_REDIRECTS = 5
_AGENT = "reelway"
_URL_PUNCTUATION = "%:/?#[]@!$&'()*+,;="  # RFC 3986, 2; letters, digits and -._~ are never quoted


class DownloadFailed(Exception):
    """An input could not be had; `args[0]` is for the client: no body, no header, no local address."""


class DownloadRefused(DownloadFailed):
    """Trying again would end the same: a refused address, 404, too large."""


class DownloadInterrupted(DownloadFailed):
    """It may work later: no connection, a server's error, a time-out."""


@dataclass(frozen=True)
class DownloadLimits:
    """Bounds of one input."""

    max_bytes: int = 5 * 2**30
    """Longest body."""
    total_seconds: float = 1800.0
    """From the first dial to the last byte, redirects included."""
    connect_seconds: float = 10.0
    """For one connection."""
    idle_seconds: float = 20.0
    """Between two reads; with `connect_seconds`, from the dial to the end of the header."""
    min_bytes_per_second: int = 16 * 1024
    """Average since the start, once the grace is over."""
    grace_seconds: float = 15.0
    """Before the average counts."""


class _Names(AbstractResolver):
    """Looks names up by getaddrinfo(3), which nothing can interrupt, in threads of its own.

    A client's name server that never answers would hold the common ones, in which all jobs of the process read and
    write files.
    """

    def __init__(self) -> None:
        self._threads = ThreadPoolExecutor(_LOOKUPS, "lookup")

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[ResolveResult]:
        loop, flags = asyncio.get_running_loop(), socket.AI_ADDRCONFIG
        found = await loop.run_in_executor(
            self._threads, lambda: socket.getaddrinfo(host, port, family, socket.SOCK_STREAM, flags=flags)
        )
        return [
            ResolveResult(
                hostname=host, host=str(address[0]), port=port, family=kind, proto=protocol, flags=socket.AI_NUMERICHOST
            )
            for kind, _, protocol, _, address in found
        ]

    async def close(self) -> None:
        self._threads.shutdown(wait=False, cancel_futures=True)


class _GuardedResolver(AbstractResolver):
    """Refuses a name of which any address is refused; lists of one good and one bad address are rebinding attempts."""

    def __init__(self, policy: AddressPolicy, inner: AbstractResolver) -> None:
        self._policy = policy
        self._inner = inner

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[ResolveResult]:
        answers = await self._inner.resolve(host, port, family)
        # A name may stand for a listed pair and for another address of the same machine: localhost is ::1, too.
        listed = [answer for answer in answers if self._policy.lists(answer["host"], port)]
        try:
            for answer in listed or answers:
                self._policy.check_address(answer["host"], port)
        except AddressRefused as error:
            log.warning("an input's name stands for an address that is refused", host=host, why=error.detail)
            # The answer for an unknown name: else clients could find out, name by name, what there is inside.
            raise OSError("refused") from None
        return listed or answers

    async def close(self) -> None:
        await self._inner.close()


class Fetcher:
    """Downloads; one for a worker, closed with it."""

    def __init__(self, policy: AddressPolicy, limits: DownloadLimits, resolver: AbstractResolver | None = None) -> None:
        self._policy = policy
        self._limits = limits
        self._resolver = resolver
        self._session: aiohttp.ClientSession | None = None

    async def fetch(self, url: str, destination: Path, spend: Callable[[int], None] = lambda size: None) -> int:
        """Stream `url` into the new file `destination`; returns its size in bytes.

        `spend` is told of every piece before it is written. Raises DownloadRefused, DownloadInterrupted or what
        `spend` raises; then there is no file.
        """
        try:
            async with asyncio.timeout(self._limits.total_seconds):
                return await self._follow(url, destination, spend)
        except TimeoutError:
            raise DownloadInterrupted("the input took too long to arrive") from None
        except AddressRefused as error:
            raise DownloadRefused(f"the input's address is not allowed: {error.detail}") from None
        except aiohttp.ClientError:
            raise DownloadInterrupted("the connection to the input's server failed") from None

    async def close(self) -> None:
        """Close what is open."""
        if self._session is not None:
            await self._session.close()

    async def _follow(self, url: str, destination: Path, spend: Callable[[int], None]) -> int:
        for _ in range(_MOST_REDIRECTS + 1):
            self._policy.check_url(url)
            async with await self._ask(url) as response:
                if response.status not in _REDIRECTS:
                    return await self._save(response, destination, spend)
                target = _target(url, response.headers.get("Location", ""))
                if url.lower().startswith("https:") and not target.lower().startswith("https:"):
                    raise DownloadRefused("the input redirects from https to another scheme")
                url = target
        raise DownloadRefused(f"the input redirects more than {_MOST_REDIRECTS} times")

    async def _ask(self, url: str) -> aiohttp.ClientResponse:
        # A header that comes byte by byte never exceeds the pause between two reads, but this.
        async with asyncio.timeout(self._limits.connect_seconds + self._limits.idle_seconds):
            return await self._client().get(_as_given(url), allow_redirects=False)

    async def _save(self, response: aiohttp.ClientResponse, destination: Path, spend: Callable[[int], None]) -> int:
        if response.status != 200:
            kind = DownloadInterrupted if response.status in _TRY_AGAIN else DownloadRefused
            raise kind(f"the input's server answered {response.status}")
        if response.headers.get("Content-Encoding", "identity").lower() not in ("", "identity"):
            raise DownloadRefused("the input arrives compressed, although that was not asked for")
        if (response.content_length or 0) > self._limits.max_bytes:
            raise DownloadRefused(f"the input is larger than {self._limits.max_bytes} bytes")
        descriptor = os.open(destination, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        try:
            size = await self._copy(response, descriptor, spend)
        except BaseException:
            os.unlink(destination)  # noqa: PTH108 - one system call, not worth a thread
            raise
        finally:
            os.close(descriptor)
        return size

    async def _copy(self, response: aiohttp.ClientResponse, descriptor: int, spend: Callable[[int], None]) -> int:
        limits = self._limits
        size = 0
        started = time.monotonic()
        async for data in response.content.iter_chunked(_CHUNK):
            size += len(data)
            if size > limits.max_bytes:
                raise DownloadRefused(f"the input is larger than {limits.max_bytes} bytes")
            spend(len(data))
            await tasks.in_thread(_write, descriptor, data)
            elapsed = time.monotonic() - started
            if elapsed > limits.grace_seconds and size < limits.min_bytes_per_second * elapsed:
                raise DownloadInterrupted("the input arrives too slowly")
        if size == 0:
            raise DownloadRefused("the input is empty")
        return size

    def _client(self) -> aiohttp.ClientSession:
        if self._session is None:
            limits = self._limits
            self._session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(
                    resolver=_GuardedResolver(self._policy, self._resolver or _Names()),
                    socket_factory=self._socket,
                    use_dns_cache=False,
                    force_close=True,
                ),
                # A proxy from the environment would dial for us, behind the guard's back.
                trust_env=False,
                cookie_jar=aiohttp.DummyCookieJar(),
                auto_decompress=False,
                headers={"Accept-Encoding": "identity", "User-Agent": _AGENT},
                timeout=aiohttp.ClientTimeout(
                    total=None, sock_connect=limits.connect_seconds, sock_read=limits.idle_seconds
                ),
            )
        return self._session

    def _socket(self, info: tuple[Any, ...]) -> socket.socket:
        """The choke point: nothing is dialled whose address was not vetted here."""
        family, kind, protocol, _, address = info
        self._policy.check_address(str(address[0]), int(address[1]))
        made = socket.socket(family, kind, protocol)
        made.setblocking(False)
        return made


def _as_given(url: str) -> URL:
    """`url` as written, but for characters that no URL has: a signature is made of the text, not of its meaning."""
    try:
        return URL(quote(url, safe=_URL_PUNCTUATION), encoded=True)
    except ValueError:
        raise DownloadRefused("the input's address is not a plain URL") from None


def _target(url: str, location: str) -> str:
    try:
        return urljoin(url, location)
    except ValueError:
        raise DownloadRefused("the input redirects to what is no address") from None


def _write(descriptor: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(descriptor, view) :]
