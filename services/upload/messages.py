"""The stream of messages of a call."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import TypeVar

from services.common.byte_messages import Buffer
from services.common.containers import SNIFF_BYTES
from services.common.error_catalog import ErrorReason
from services.common.errors import ReelwayError

FRAMING = 2**20
"""How far `max_size_bytes` of a header may be over a limit: it may have a form's framing in it."""

T = TypeVar("T")


async def idle_limited(messages: AsyncIterator[T], seconds: float) -> AsyncIterator[T]:
    """The same messages; TIMEOUT where one takes longer than `seconds`."""
    loop = asyncio.get_running_loop()
    iterator = aiter(messages)
    while True:
        try:
            async with asyncio.timeout_at(loop.time() + seconds):
                message = await anext(iterator)
        except StopAsyncIteration:
            return
        except TimeoutError:
            raise ReelwayError(ErrorReason.TIMEOUT, "No data came for too long") from None
        yield message


async def beginning(pieces: AsyncIterator[Buffer]) -> list[Buffer]:
    """The first pieces, enough to sniff them; fewer only where there are no more."""
    first: list[Buffer] = []
    while sum(map(len, first)) < SNIFF_BYTES and (piece := await anext(pieces, None)) is not None:
        first.append(piece)
    return first
