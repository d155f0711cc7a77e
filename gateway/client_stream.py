"""A call that sends a stream and gets one answer."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any

import grpc

from services.common.error_translator import from_rpc_error


async def answer_to(call: Any, send: Coroutine[Any, Any, None]) -> Any:
    """The answer to `call`, while or after `send` writes its messages.

    The service may end the call while we wait for the client's next bytes, which may be long in coming. An exception
    that `send` raises cancels the call, which then leaves nothing behind, and comes out; the service's refusal comes
    as ReelwayError.
    """
    sending = asyncio.ensure_future(send)
    answer = asyncio.ensure_future(_awaited(call))
    try:
        await asyncio.wait((sending, answer), return_when=asyncio.FIRST_COMPLETED)
        if sending.done():
            await sending
        return await answer
    except grpc.aio.AioRpcError as error:
        raise from_rpc_error(error) from None
    finally:
        if not call.done():
            call.cancel()
        sending.cancel()
        answer.cancel()
        await asyncio.gather(sending, answer, return_exceptions=True)


async def _awaited(call: Any) -> Any:
    return await call
