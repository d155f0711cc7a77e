"""A call that sends what a client brings as a stream of messages, and gets one answer."""

from __future__ import annotations

import asyncio
import contextlib
import weakref
from collections.abc import AsyncIterator, Coroutine
from typing import Any

import grpc

from services.common.byte_messages import Buffer
from services.common.error_translator import from_rpc_error

# The first message is small: enough to judge the body by, and to begin its request to the store with.
_FIRST_MESSAGE = 2**17
_MESSAGE = 2**20
LONGEST_GATHERING = 5.0
"""Seconds after which what a slow client has brought is sent, however little, so that the service sees it alive."""

# How long a client may go on sending once the answer to its call is there.
_REST_SECONDS = 900.0


async def gathered(data: AsyncIterator[Buffer], length: int) -> AsyncIterator[tuple[list[Buffer], bool]]:
    """The bytes of `data` in lists that are worth a message each, and whether it is the last, which may be empty.

    What ends a body of `length` bytes (0: not known) comes with the last one.
    """
    pieces: list[Buffer] = []
    size, before, enough, now = 0, 0, _FIRST_MESSAGE, asyncio.get_running_loop().time
    due = now() + LONGEST_GATHERING
    async for piece in data:
        pieces.append(piece)
        size += len(piece)
        if (size >= enough or now() >= due) and before + size != length:
            yield pieces, False
            before += size
            pieces, size, enough, due = [], 0, _MESSAGE, now() + LONGEST_GATHERING
    yield pieces, True


async def _write(call: Any, message: Any) -> None:
    # The call had ended when it was written; the answer says why.
    with contextlib.suppress(asyncio.InvalidStateError, grpc.aio.AioRpcError):
        await call.write(message)


async def _send(call: Any, messages: AsyncIterator[Any]) -> None:
    """Write all messages and end the stream; one is on its way while the next is gathered."""
    under_way: asyncio.Future[None] | None = None
    try:
        async for message in messages:
            if under_way is not None:
                await under_way
            under_way = asyncio.ensure_future(_write(call, message))
        if under_way is not None:
            await under_way
        await call.done_writing()
    finally:
        if under_way is not None:
            under_way.cancel()
            await asyncio.gather(under_way, return_exceptions=True)


async def answer_to(call: Any, messages: AsyncIterator[Any]) -> Any:
    """The answer to `call`, while or after `messages` are written to it.

    The service may end the call while we wait for the client's next bytes, which may be long in coming. An exception
    that `messages` raise cancels the call, which then leaves nothing behind, and comes out; the service's refusal comes
    as ReelwayError.
    """
    statuses: list[grpc.aio.AioRpcError] = []
    this = weakref.ref(call)

    def note() -> None:
        if (ended := this()) is not None:
            statuses.append(_status_of(ended))

    # Not by the call's own method, which would make a cycle that only the garbage collector ends.
    call._cython_call.add_done_callback(note)
    sending = asyncio.ensure_future(_send(call, messages))
    answer = asyncio.ensure_future(call)
    try:
        await asyncio.wait((sending, answer), return_when=asyncio.FIRST_COMPLETED)
        if sending.done():
            await sending
        result = await answer
        # It may be early, and most clients look for it only once they have sent everything.
        await asyncio.wait((sending,), timeout=_REST_SECONDS)
        return result
    except grpc.aio.AioRpcError as error:
        raise from_rpc_error(next(filter(_is_told, statuses), error)) from None
    finally:
        if not call.done():
            call.cancel()
        sending.cancel()
        answer.cancel()
        await asyncio.gather(sending, answer, return_exceptions=True)


def _is_told(status: grpc.aio.AioRpcError) -> bool:
    """Whether it was given by the service or the transport.

    Where a call ends while a message is on its way, grpc.aio (1.85.1) gives it a status of its own, before the one that
    it ended with or over it.
    """
    return status.code() is not grpc.StatusCode.INTERNAL or len(status.trailing_metadata()) > 0


def _status_of(ended: Any) -> grpc.aio.AioRpcError:
    """Of a call that was given one this very moment."""
    code, details, trailing = (_at_once(word()) for word in (ended.code, ended.details, ended.trailing_metadata))
    return grpc.aio.AioRpcError(code, grpc.aio.Metadata(), trailing, details)


def _at_once(there: Coroutine[Any, Any, Any]) -> Any:
    """The result of a coroutine that has nothing to wait for."""
    try:
        there.send(None)
    except StopIteration as end:
        return end.value
    raise RuntimeError("a call that has ended has no status")
