"""A run of bytes, sent to S3 while it still arrives: one part of a multipart upload, or a whole small object."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import TypeAlias

from services.common.byte_messages import Buffer
from services.common.errors import ReelwayError

Put: TypeAlias = Callable[[int, Callable[[], AsyncIterator[Buffer]]], Awaitable[str]]
"""Writes so many bytes from a body that can be asked for again; the ETag of what was written."""


class _WrongGuess(Exception):
    """The part has not the length that its request promised."""


class Part:
    """Pieces in order, kept until the store has acknowledged them, so that the request can be repeated."""

    def __init__(self, likely_size: int | None) -> None:
        """A part that will most likely have `likely_size` bytes; None: not known before it ends."""
        self.size = 0
        self._likely_size = likely_size
        self._pieces: list[Buffer] = []
        self._ended = False
        self._grown = asyncio.Event()

    def add(self, piece: Buffer) -> None:
        """The next bytes."""
        self._pieces.append(piece)
        self.size += len(piece)
        self._grown.set()

    def end(self) -> None:
        """No more bytes come."""
        self._ended = True
        self._grown.set()

    async def send(self, put: Put) -> str:
        """Write the part as it arrives; its ETag. STORE_UNAVAILABLE as S3Bytes.put says."""
        etag = ""
        if self._likely_size is not None:
            # Where the guess proves wrong the same bytes go again, with their true length. S3 drops a PUT after 20 s
            # without a byte, and we wait longer for a client: its part then goes again once it is whole.
            try:
                etag = await self._put(put, self._likely_size)
            except _WrongGuess:
                pass
            except ReelwayError:
                if self._ended:
                    raise
        while not self._ended:
            await self._wait()
        if etag and self.size == self._likely_size:
            return etag
        return await self._put(put, self.size)

    async def _put(self, put: Put, length: int) -> str:
        return await put(length, lambda: self._body(length))

    async def _body(self, length: int) -> AsyncIterator[Buffer]:
        index = sent = 0
        while True:
            while index < len(self._pieces):
                piece = self._pieces[index]
                index, sent = index + 1, sent + len(piece)
                if sent > length:
                    # The HTTP client would cut what is over, and S3 take the part.
                    raise _WrongGuess
                yield piece
            if sent == length:
                return
            if self._ended:
                raise _WrongGuess
            await self._wait()

    async def _wait(self) -> None:
        self._grown.clear()
        await self._grown.wait()
