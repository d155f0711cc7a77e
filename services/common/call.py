"""One unary call to a peer: with a deadline, for a caller, and with one type of error."""

from __future__ import annotations

from typing import TypeVar

import grpc

from services.common import logs
from services.common.caller import Caller, current_caller
from services.common.channel import CALL_SECONDS
from services.common.error_catalog import ErrorReason
from services.common.error_translator import from_rpc_error

log = logs.get_logger(__name__)

_NO_ANSWER = {ErrorReason.SERVICE_UNAVAILABLE, ErrorReason.TIMEOUT, ErrorReason.INTERNAL}

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
        failure = from_rpc_error(error)
        if failure.reason in _NO_ANSWER:
            # The client is told neither which service nor why, and that service may never have seen the call.
            log.warning("no answer", request=type(request).__name__, code=error.code().name, why=error.details())
        raise failure from None
