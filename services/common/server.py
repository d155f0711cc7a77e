"""The only gRPC bootstrap: errors, identity, metrics, health, reflection, drain."""

from __future__ import annotations

import asyncio
import contextlib
import random
import signal
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterator, Mapping, Sequence
from typing import Any, NoReturn

import grpc
from google.protobuf.message import DecodeError
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_health.v1.health import aio as health_aio
from grpc_reflection.v1alpha import reflection

from services.common import allocator, fault_points, logs, metrics, open_files
from services.common import caller as callers
from services.common.channel import TRANSPORT_OPTIONS, tls_files
from services.common.error_catalog import ErrorReason
from services.common.error_translator import from_rpc_error, to_status
from services.common.errors import ReelwayError
from services.common.settings import S, ServiceSettings, load, refuse

log = logs.get_logger(__name__)

LIVENESS = "live"
"""Health service name that is SERVING as long as the process can answer at all."""

Register = Callable[[grpc.aio.Server], None]
Check = Callable[[], Awaitable[None]]


async def _abort(context: grpc.aio.ServicerContext[Any, Any], method: str, error: BaseException) -> NoReturn:
    if isinstance(error, grpc.aio.AbortError):
        raise error
    if isinstance(error, grpc.RpcError):
        # A peer's refusal keeps its reason on its way up.
        error = from_rpc_error(error)
    elif isinstance(error, TimeoutError):
        error = ReelwayError(ErrorReason.TIMEOUT)
    if not isinstance(error, ReelwayError):
        log.error("unhandled error", method=method, exc_info=error)
        error = ReelwayError(ErrorReason.INTERNAL)
    elif error.reason is ErrorReason.INTERNAL:
        log.error("internal error", method=method, detail=error.detail)
    await context.abort_with_status(to_status(error))


def _parser(handler: Any) -> Callable[[bytes], Any]:
    """What a call's messages are parsed with; gRPC would tell a failure as UNKNOWN, with the exception's text."""
    if (deserialize := handler.request_deserializer) is None:
        return lambda message: message

    def parse(message: bytes) -> Any:
        try:
            return deserialize(message)
        except DecodeError:
            raise ReelwayError(ErrorReason.INVALID_REQUEST, "The message cannot be parsed") from None

    return parse


class _Edge(grpc.aio.ServerInterceptor):
    """Around every call: the caller's identity in, one table of errors out, and the metrics."""

    def __init__(self, max_unary_seconds: float) -> None:
        self._max_unary_seconds = max_unary_seconds
        self._wrapped: dict[str, Any] = {}

    async def intercept_service(self, continuation: Any, details: grpc.HandlerCallDetails) -> Any:
        method = details.method
        if (known := self._wrapped.get(method)) is not None:
            return known
        handler = await continuation(details)
        if handler is None or method.startswith(("/grpc.health.", "/grpc.reflection.")):
            return handler
        # Only for methods that exist: their number is small.
        wrapped = self._wrapped[method] = self._wrap(method, handler)
        return wrapped

    def _wrap(self, method: str, handler: Any) -> Any:
        observed, parse = _Observed(method), _parser(handler)
        # A stream's messages are parsed where the handler awaits them.
        deserializer = parse if handler.request_streaming else None

        def let_in(request: Any, context: Any) -> Any:
            # Inside the handler, so that a refusal is answered as any other.
            callers.set_caller(callers.from_metadata(context.invocation_metadata()))
            return request if handler.request_streaming else parse(request)

        if handler.response_streaming:

            async def stream(request: Any, context: Any) -> AsyncIterator[Any]:
                with observed(context):
                    try:
                        async for response in handler_call(let_in(request, context), context):
                            yield response
                    except Exception as error:
                        await _abort(context, method, error)

            handler_call = handler.stream_stream if handler.request_streaming else handler.unary_stream
            make = (
                grpc.stream_stream_rpc_method_handler
                if handler.request_streaming
                else grpc.unary_stream_rpc_method_handler
            )
            return make(stream, deserializer, handler.response_serializer)

        async def unary(request: Any, context: Any) -> Any:
            # A stream of requests has its own idle limit; a single request a deadline, ours if need be.
            bounded = not handler.request_streaming and context.time_remaining() is None
            with observed(context):
                try:
                    request = let_in(request, context)
                    if not bounded:
                        return await single_call(request, context)
                    async with asyncio.timeout(self._max_unary_seconds):
                        return await single_call(request, context)
                except Exception as error:
                    await _abort(context, method, error)

        single_call = handler.stream_unary if handler.request_streaming else handler.unary_unary
        make_single = (
            grpc.stream_unary_rpc_method_handler if handler.request_streaming else grpc.unary_unary_rpc_method_handler
        )
        return make_single(unary, deserializer, handler.response_serializer)


class _Observed:
    """The metrics of one method; its labels are looked up once."""

    def __init__(self, method: str) -> None:
        self._method = method
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


async def _failure(check: Check) -> str:
    """Why it did not pass; empty: it did."""
    try:
        async with asyncio.timeout(5):
            await check()
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    return ""


async def _watch_readiness(health: health_aio.HealthServicer, ready: Mapping[str, Check]) -> None:
    """Say SERVING while all of `ready` pass, NOT_SERVING while one raises; the log names those."""
    waits_for: set[str] | None = None
    while True:
        whys = await asyncio.gather(*map(_failure, ready.values()))
        failures = {name: why for name, why in zip(ready, whys, strict=True) if why}
        if failures.keys() != waits_for:
            waits_for = set(failures)
            status = health_pb2.HealthCheckResponse.NOT_SERVING if failures else health_pb2.HealthCheckResponse.SERVING
            await health.set("", status)
            if failures:
                log.warning("not ready", why="; ".join(f"{name}: {why}" for name, why in failures.items()))
            else:
                log.info("ready")
        await asyncio.sleep(0.3 if failures else 2.0)


def _bind(server: grpc.aio.Server, settings: ServiceSettings) -> int:
    """Take both addresses; the port of the server."""
    try:
        if settings.grpc_tls_cert_file:
            key, certificate, authority = tls_files(settings)
            credentials = grpc.ssl_server_credentials([(key, certificate)], authority, require_client_auth=True)
            port = server.add_secure_port(settings.grpc_listen, credentials)
        else:
            port = server.add_insecure_port(settings.grpc_listen)
    except RuntimeError:
        refuse(f"GRPC_LISTEN: cannot listen on {settings.grpc_listen}")
    metrics.serve_metrics(settings.metrics_listen)
    return port


async def serve(
    settings: ServiceSettings,
    register: Register,
    *,
    service_names: Sequence[str],
    ready: Mapping[str, Check],
    background: Sequence[Coroutine[Any, Any, None]] = (),
    on_drain: Callable[[], None] = lambda: None,
) -> None:
    """Run a gRPC server until SIGTERM or SIGINT, then drain it: no accepted call is cut short.

    Args:
        settings: listen addresses and limits.
        register: adds the servicers.
        service_names: full proto names, for reflection.
        ready: by name, for the log, what raises while the process cannot serve (a store is away); asked every two
            seconds.
        background: loops that live as long as the server; one that ends early is logged and ends the process with
            status 1, because a service without its sweeper would rot unseen.
        on_drain: called when no more calls are taken, to end those that have no end of their own.
    """
    stop = asyncio.Event()
    for signum in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(signum, stop.set)

    age = settings.max_connection_age_seconds * random.uniform(0.9, 1.1)  # noqa: S311 - spread, no secret
    server = grpc.aio.server(
        interceptors=[_Edge(settings.max_unary_seconds)],
        options=[
            *TRANSPORT_OPTIONS,
            ("grpc.max_connection_age_ms", int(age * 1000)),
            # Longer than any window of a read; an upload on an aged connection goes on until it ends.
            ("grpc.max_connection_age_grace_ms", 2**31 - 1),
            # Many clients ping each 10 s, idle ones too; by default one that pings within two hours is sent away.
            ("grpc.keepalive_permit_without_calls", 1),
            ("grpc.http2.min_ping_interval_without_data_ms", 5_000),
            ("grpc.so_reuseport", 0),
        ],
    )
    health = health_aio.HealthServicer()
    health_pb2_grpc.add_HealthServicer_to_server(health, server)
    reflection.enable_server_reflection(
        [*service_names, health_pb2.DESCRIPTOR.services_by_name["Health"].full_name, reflection.SERVICE_NAME],
        server,
    )
    register(server)
    try:
        port = _bind(server, settings)
        probed = _health_server(health, settings.health_listen) if settings.health_listen else None
    except SystemExit:
        for loop in background:
            loop.close()
        raise
    await health.set("", health_pb2.HealthCheckResponse.NOT_SERVING)
    await health.set(LIVENESS, health_pb2.HealthCheckResponse.SERVING)
    await server.start()
    if probed is not None:
        await probed.start()
    log.info("listening", address=f"{settings.grpc_listen.rpartition(':')[0]}:{port}")

    loops = [asyncio.create_task(_watch_readiness(health, ready)), *map(asyncio.create_task, background)]
    stopped = asyncio.create_task(stop.wait())
    broken = False
    try:
        done, _ = await asyncio.wait([stopped, *loops], return_when=asyncio.FIRST_COMPLETED)
        for task in done - {stopped}:
            broken = True
            log.error("a background loop ended", exc_info=task.exception())
        log.info("draining", seconds=settings.drain_seconds)
        loops[0].cancel()
        await health.enter_graceful_shutdown()
        await asyncio.sleep(settings.drain_notice_seconds)
        # Its first step, before it waits, is to take no more calls.
        stopping = asyncio.ensure_future(server.stop(settings.drain_seconds))
        await asyncio.sleep(0)
        on_drain()
        await stopping
        if probed is not None:
            await probed.stop(0)
    finally:
        for task in (stopped, *loops):
            task.cancel()
        # A loop that does its own tidying, as a worker's drain, is waited for, but not for ever; whoever is left is
        # cancelled once more by the event loop's own end.
        await asyncio.wait((stopped, *loops), timeout=settings.drain_seconds + 10)
    log.info("stopped")
    if broken:
        raise SystemExit(1)


def _health_server(health: health_aio.HealthServicer, listen: str) -> grpc.aio.Server:
    """The same health on a port of its own: Kubernetes' gRPC probes speak no TLS."""
    server = grpc.aio.server()
    health_pb2_grpc.add_HealthServicer_to_server(health, server)
    try:
        server.add_insecure_port(listen)
    except RuntimeError:
        refuse(f"HEALTH_LISTEN: cannot listen on {listen}")
    return server


def run(process: str, settings_class: type[S], main: Callable[[S], Coroutine[Any, Any, None]]) -> None:
    """Load the settings, set up logs and the event loop, and run `main` to its end; what a `__main__` calls."""
    settings = load(settings_class)
    allocator.keep_large_buffers()
    open_files.raise_limit()
    callers.require_tokens(settings.service_token_secret.get_secret_value())
    logs.configure(process, settings.log_level, settings.log_format)
    if isinstance(settings, ServiceSettings):
        fault_points.arm(settings.fault_point)
    if settings.event_loop == "uvloop":
        import uvloop  # noqa: PLC0415 - only where it is asked for

        uvloop.run(main(settings))
    else:
        asyncio.run(main(settings))
