"""Answers without an end of their own: they end when the gateway drains, and their clients come again."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator


class Endless:
    """What endless answers run in: `async with endless.until_drained(): …`."""

    def __init__(self) -> None:
        self._limits: set[asyncio.Timeout] = set()
        self._draining = False

    @contextlib.asynccontextmanager
    async def until_drained(self) -> AsyncIterator[None]:
        """Leaves the block when `drain` is called, at once when it was."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(0 if self._draining else None) as limit:
                self._limits.add(limit)
                try:
                    yield
                finally:
                    self._limits.discard(limit)

    def drain(self) -> None:
        """End them all."""
        self._draining = True
        now = asyncio.get_running_loop().time()
        for limit in self._limits:
            limit.reschedule(now)
