"""One unary call to a peer: with a deadline, for a caller, and with one type of error."""

from __future__ import annotations

from typing import TypeVar

import grpc

from services.common.caller import Caller, current_caller
from services.common.channel import CALL_SECONDS
from services.common.error_translator import from_rpc_error

_Request = TypeVar("_Request")
_Answer = TypeVar("_Answer")


async def call(
    method: grpc.aio.UnaryUnaryMultiCallable[_Request, _Answer],
    request: _Request,
    caller: Caller | None = None,
    seconds: float = CALL_SECONDS,
) -> _Answer:
    """The answer, within so many seconds; for the caller of the request that this task serves unless another is named.

    Raises:
        ReelwayError: what the peer refused, or SERVICE_UNAVAILABLE and TIMEOUT where it gave no answer.
    """
    try:
        return await method(request, timeout=seconds, metadata=(caller or current_caller()).metadata())
    except grpc.aio.AioRpcError as error:
        raise from_rpc_error(error) from None
