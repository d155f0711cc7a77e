"""The servers that are compared."""

from pathlib import Path
from typing import Protocol

import aiohttp

from bench.load import Load, Request
from bench.processes import ProcessSet
from bench.storage import Storage, StoredVideo
from deploy.local.process import Process


class Peer(Protocol):
    """One way of getting the same bytes in and out of the same S3.

    Attributes:
        name: Its short name in tables and targets.
        title: What it is, for the report.
        caches: Whether it keeps bytes between requests, so that a hot row must warm it.
    """

    name: str
    title: str
    caches: bool

    async def start(self) -> None:
        """Start its processes.

        Raises:
            StartError: It did not become ready.
        """

    async def stop(self) -> None:
        """Stop its processes."""

    @property
    def address(self) -> tuple[str, int]:
        """Where it listens."""

    @property
    def processes(self) -> ProcessSet:
        """Its own processes, S3's and Redis's not among them; empty where there are none between client and S3."""

    def get(self, video: StoredVideo, start: int = 0, length: int | None = None) -> Request:
        """A request for `length` bytes from `start`, or for the whole video without a Range where None."""

    def upload(self, source: Path) -> tuple[Load, StoredVideo]:
        """Upload a file; give what it took and where it went."""


class Server:
    """What the peers have in common that are a process of ours.

    Args:
        storage: The S3 and Redis that it uses.
        folder: For its files.
    """

    name: str
    stop_seconds = 5.0

    def __init__(self, storage: Storage, folder: Path) -> None:
        self.storage = storage
        self._folder = folder.absolute()
        self._port = 0
        self._process: Process | None = None

    async def stop(self) -> None:
        """Stop it as Ctrl-C does."""
        if self._process is not None:
            await self._process.stop(self.stop_seconds)

    @property
    def address(self) -> tuple[str, int]:
        """Where it listens."""
        return "127.0.0.1", self._port

    @property
    def processes(self) -> ProcessSet:
        """It and its children."""
        return ProcessSet({self.name: [self._process.pid]} if self._process else {})


def get_request(host: str, target: str, video: StoredVideo, start: int, length: int | None) -> Request:
    """A GET of the video at this target: of `length` bytes from `start`, or of the whole without a Range where None."""
    wanted = "" if length is None else f"Range: bytes={start}-{start + length - 1}\r\n"
    head = f"GET {target} HTTP/1.1\r\nHost: {host}\r\n{wanted}\r\n"
    return Request(head, video.size if length is None else length)


async def answers(url: str) -> bool:
    """Whether a server gives any HTTP answer below 500 there."""
    try:
        timeout = aiohttp.ClientTimeout(total=2)
        async with aiohttp.ClientSession(timeout=timeout) as session, session.get(url) as answer:
            return answer.status < 500
    except (aiohttp.ClientError, TimeoutError):
        return False
