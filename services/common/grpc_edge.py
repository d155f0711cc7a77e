"""The edge of every gRPC service: what is the same for each of its calls."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable, Iterator
from typing import Any, NoReturn

import grpc
from google.protobuf.message import DecodeError

from services.common import caller as callers
from services.common import logs, metrics, monitor_streams
from services.common.byte_pool import BytePool
from services.common.error_catalog import ErrorReason
from services.common.error_translator import to_status
from services.common.errors import ReelwayError
from services.common.method_handlers import behaviour_of, with_behaviour

log = logs.get_logger(__name__)

_LAST_MOMENT = 0.1
"""Seconds: a client whose time is up cancels its call, which comes here before our own clock says so."""
MOST_CALLS = 4000
"""Under way in a process, of all clients together: measured, one that brings nothing takes 21 KiB. Streams last as long
as clients like: beyond three quarters of it none begins, so that other calls find room."""
ANSWER_BYTES = 64 * 2**20
"""Of answers that gRPC has not sent, of all calls together; it needs twice as much."""
_NO_LIMIT = contextlib.nullcontext()
"""A sixth of the time of a timeout that never ends, for each message."""


async def _abort(context: grpc.aio.ServicerContext[Any, Any], method: str, error: BaseException) -> NoReturn:
    if isinstance(error, TimeoutError):
        error = ReelwayError(ErrorReason.TIMEOUT)
    if not isinstance(error, ReelwayError):
        log.error("unhandled error", method=method, exc_info=error)
        error = ReelwayError(ErrorReason.INTERNAL)
    elif error.reason is ErrorReason.INTERNAL:
        log.error("internal error", method=method, detail=error.detail)
    elif error.reason is ErrorReason.CALL_TOKEN_REFUSED:
        # By this edge, before it knew the caller and with it the request's id; or by a peer that was called for it.
        request_id = callers.request_id_of(context.invocation_metadata())
        log.warning("call refused", method=method, why=str(error), request_id=request_id)
    await context.abort_with_status(to_status(error))


def _parser(handler: Any) -> Callable[[bytes], Any]:
    """Parses a call's messages; gRPC itself would answer a failure as UNKNOWN, with the exception's text."""
    if (deserialize := handler.request_deserializer) is None:
        return lambda message: message

    def parse(message: bytes) -> Any:
        try:
            return deserialize(message)
        except DecodeError:
            raise ReelwayError(ErrorReason.INVALID_REQUEST, "The message cannot be parsed") from None

    return parse


class Edge(grpc.aio.ServerInterceptor):
    """Around every call: the caller's identity in, one table of errors out, and the metrics."""

    def __init__(self, max_unary_seconds: float, drained: asyncio.Event) -> None:
        self._max_unary_seconds, self._drained = max_unary_seconds, drained
        self._wrapped: dict[str, Any] = {}
        self._running: set[asyncio.Task[Any]] = set()
        self._answers = BytePool(ANSWER_BYTES, metrics.RPC_ANSWER_BYTES)
        self._monitors: set[asyncio.Task[Any]] = set()

    async def wait(self, seconds: float) -> None:
        """Until the calls that a stopping server has cut off have undone what they began, no longer than `seconds`."""
        if self._running:
            await asyncio.wait(self._running, timeout=seconds)

    def note(self, *, streams: bool) -> None:
        """This call is under way until gRPC has sent its answer, which a client may not take."""
        if len(self._running) >= (MOST_CALLS * 3 // 4 if streams else MOST_CALLS):
            raise ReelwayError(ErrorReason.TOO_MANY_REQUESTS)
        if (task := asyncio.current_task()) is not None:
            self._running.add(task)
            task.add_done_callback(self._running.discard)

    def hold(self, answer: bytes) -> bytes:
        """It, for which there is room as long as this call is under way; SERVICE_UNAVAILABLE where there is none."""
        size = len(answer)
        # Half of what is left at most: small ones, as of most calls that change something, find room beside lists.
        if not self._answers.take(size, leaving=size):
            del answer  # the traceback would keep it until the garbage collector comes
            # Not TOO_MANY_REQUESTS, which says that nothing was done.
            raise ReelwayError(ErrorReason.SERVICE_UNAVAILABLE, "Too many answers wait for their clients")
        if (task := asyncio.current_task()) is not None:
            task.add_done_callback(lambda _: self._answers.give_back(size))
        return answer

    async def intercept_service(self, continuation: Any, details: grpc.HandlerCallDetails) -> Any:
        """The handler of a method, wrapped; health and reflection are what they were, but end with a drain."""
        method = details.method
        if (known := self._wrapped.get(method)) is not None:
            return known
        handler = await continuation(details)
        if handler is None:
            return None
        if method.startswith(("/grpc.health.", "/grpc.reflection.")):
            return monitor_streams.ended_by(self._drained, handler, self._monitors)
        # Only for methods that exist: their number is small.
        wrapped = self._wrapped[method] = _Method(self, method, handler, self._max_unary_seconds).wrapped()
        return wrapped


class _Method:
    """One method of a service: its calls are let in, answered, and counted."""

    def __init__(self, edge: Edge, name: str, handler: Any, max_unary_seconds: float) -> None:
        self._edge, self._name, self._handler, self._max_unary_seconds = edge, name, handler, max_unary_seconds
        self._observed = _Observed(name, streams=handler.response_streaming)
        self._streams = handler.request_streaming or handler.response_streaming
        self._parse, self._call, self._serialize = _parser(handler), behaviour_of(handler), handler.response_serializer

    def wrapped(self) -> Any:
        """What gRPC is to call instead of the handler."""
        # A stream's messages are parsed where the handler awaits them.
        deserializer = self._parse if self._handler.request_streaming else None
        if self._handler.response_streaming:
            return with_behaviour(self._handler, self._stream, deserializer, self._serialize)
        return with_behaviour(self._handler, self._unary, deserializer, None)

    async def _let_in(self, requests: Any, context: Any) -> Any:
        """The request, or the stream of them; the caller is known then."""
        # Inside the handler, so that a refusal is answered as any other.
        callers.set_caller(callers.from_metadata(context.invocation_metadata()))
        if self._handler.request_streaming:
            return requests
        # Clients send it right behind the headers; gRPC would wait for it for ever, and a drain with it.
        async with asyncio.timeout(self._max_unary_seconds):
            message = await context.read()
        if message is grpc.aio.EOF:
            # Or its client has gone, or it is too long: then gRPC cancels this in a moment.
            await asyncio.sleep(_LAST_MOMENT)
            raise ReelwayError(ErrorReason.INVALID_REQUEST, "The message is missing")
        return self._parse(message)

    async def _stream(self, requests: Any, context: Any) -> None:
        bounded = context.time_remaining() is not None
        with self._observed(context):
            try:
                self._edge.note(streams=self._streams)
                async for response in self._call(await self._let_in(requests, context), context):
                    # A client that set no deadline, and stops reading, must not be waited for for ever.
                    async with _NO_LIMIT if bounded else asyncio.timeout(self._max_unary_seconds):
                        await context.write(response)
            except grpc.aio.BaseError:
                raise asyncio.CancelledError from None  # the client has gone: what gRPC raises elsewhere
            except Exception as error:
                await _abort(context, self._name, error)

    async def _unary(self, requests: Any, context: Any) -> Any:
        # A stream of requests has its own idle limit; a single request a deadline, ours if need be.
        bounded = self._handler.request_streaming or context.time_remaining() is not None
        with self._observed(context):
            try:
                self._edge.note(streams=self._streams)
                request = await self._let_in(requests, context)
                async with _NO_LIMIT if bounded else asyncio.timeout(self._max_unary_seconds):
                    if self._serialize is None:
                        return await self._call(request, context)  # bytes, whose room is the method's own matter
                    return self._edge.hold(self._serialize(await self._call(request, context)))
            except Exception as error:
                await _abort(context, self._name, error)


class _Observed:
    """The metrics of one method; its labels are looked up once."""

    def __init__(self, method: str, *, streams: bool) -> None:
        self._method, self._streams = method, streams
        self._started = metrics.RPC_STARTED.labels(method)
        self._in_flight = metrics.RPC_IN_FLIGHT.labels(method)
        self._seconds = metrics.RPC_SECONDS.labels(method)
        self._handled: dict[grpc.StatusCode, Any] = {}

    @contextlib.contextmanager
    def __call__(self, context: Any) -> Iterator[None]:
        started = time.perf_counter()
        self._started.inc()
        self._in_flight.inc()
        code = grpc.StatusCode.OK
        try:
            yield
        except asyncio.CancelledError:
            code = grpc.StatusCode.CANCELLED
            left = context.time_remaining()
            if left is not None and left < _LAST_MOMENT and not self._streams:
                # Not so for a stream: its deadline passes where its viewer reads slowly.
                code = grpc.StatusCode.DEADLINE_EXCEEDED
            raise
        except BaseException:
            code = _code_of(context)
            raise
        finally:
            self._in_flight.dec()
            if (handled := self._handled.get(code)) is None:
                handled = self._handled[code] = metrics.RPC_HANDLED.labels(self._method, code.name)
            handled.inc()
            seconds = time.perf_counter() - started
            self._seconds.observe(seconds)
            log.debug("rpc", method=self._method, code=code.name, seconds=round(seconds, 4))


def _code_of(context: Any) -> grpc.StatusCode:
    code = context.code()
    if isinstance(code, grpc.StatusCode):
        return code
    return next((status for status in grpc.StatusCode if status.value[0] == code), grpc.StatusCode.UNKNOWN)
