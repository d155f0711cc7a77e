"""The stream of messages of a call."""

from __future__ import annotations

import asyncio
import math
from collections.abc import AsyncIterator
from typing import Any, TypeVar

from services.common.byte_messages import Buffer, ByteMessage, Header
from services.common.containers import SNIFF_BYTES
from services.common.error_catalog import ErrorReason
from services.common.errors import FieldViolation, ReelwayError

FRAMING = 2**20
"""How far `max_size_bytes` of a header may be over a limit: it may have a form's framing in it."""

T = TypeVar("T")


async def idle_limited(messages: AsyncIterator[T], seconds: float, until: float = math.inf) -> AsyncIterator[T]:
    """The same messages; TIMEOUT where one takes longer than `seconds`, CHUNK_TOO_SLOW where we wait `until` then.

    That is a time of the event loop.
    """
    loop = asyncio.get_running_loop()
    iterator = aiter(messages)
    while True:
        due = loop.time() + seconds
        try:
            async with asyncio.timeout_at(min(due, until)):
                message = await anext(iterator)
        except StopAsyncIteration:
            return
        except TimeoutError:
            if until < due:
                raise ReelwayError(ErrorReason.CHUNK_TOO_SLOW) from None
            raise ReelwayError(ErrorReason.TIMEOUT, "No data came for too long") from None
        yield message


async def first_of(messages: AsyncIterator[ByteMessage[Header]]) -> tuple[ByteMessage[Header], Header]:
    """The first message, and its header; HEADER_MISSING."""
    first = await anext(messages, None)
    if first is None or first.header is None:
        raise ReelwayError(ErrorReason.HEADER_MISSING)
    return first, first.header


def negative(header: Any, *names: str) -> list[FieldViolation]:
    """What is wrong with those of these fields that are negative."""
    return [FieldViolation(name, "must not be negative") for name in names if getattr(header, name) < 0]


async def data_of(
    first: ByteMessage[Any], messages: AsyncIterator[ByteMessage[Any]], *, announced: bool
) -> AsyncIterator[Buffer]:
    """The bytes from the first message to the one with `finish`, or, where that is not `announced`, to the end."""
    message: ByteMessage[Any] | None = first
    while message is not None:
        for piece in message.data:
            if piece:
                yield piece
        if message.finish:
            return
        message = await anext(messages, None)
        if message is not None and message.header is not None:
            raise ReelwayError(ErrorReason.HEADER_MISSING, "There must be one header, at the beginning")
    if announced:
        raise ReelwayError(ErrorReason.LENGTH_MISMATCH, "The data broke off")


async def beginning(pieces: AsyncIterator[Buffer]) -> list[Buffer]:
    """The first pieces, enough to sniff them; fewer only where there are no more."""
    first: list[Buffer] = []
    while sum(map(len, first)) < SNIFF_BYTES and (piece := await anext(pieces, None)) is not None:
        first.append(piece)
    return first
