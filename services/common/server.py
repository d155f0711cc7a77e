"""The only gRPC server: health, reflection, drain."""

from __future__ import annotations

import asyncio
import random
import signal
from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence
from typing import Any

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_health.v1.health import aio as health_aio
from grpc_reflection.v1alpha import reflection

from services.common import logs, metrics
from services.common.channel import TRANSPORT_OPTIONS, tls_files
from services.common.grpc_edge import Edge
from services.common.readiness_log import ReadinessLog
from services.common.settings import LONGEST_GRPC_SECONDS, ServiceSettings, refuse

log = logs.get_logger(__name__)

LIVENESS = "live"
"""Health service name that is SERVING as long as the process can answer at all."""

TIDY_SECONDS = 25.0
"""Given beyond the drain to calls that it cut off, and to background loops: a worker waits JOB_KILL_SECONDS and five
more for its jobs to let go."""

SHORT_GRACE_SECONDS = 120.0
"""`grace_seconds` of who answers short calls alone: twice the longest deadline of our own reads."""

_MOST_CONNECTIONS = 1000
"""Each takes some 10 KiB, with TLS 70, without a call, too."""

Check = Callable[[], Awaitable[None]]
_CHECK_SECONDS = 5


async def _failure(check: Check) -> str:
    """Why it did not pass; empty: it did."""
    try:
        async with asyncio.timeout(_CHECK_SECONDS) as limit:
            await check()
    except Exception as error:
        if limit.expired():
            return f"no answer within {_CHECK_SECONDS} s"
        return f"{type(error).__name__}: {error}"
    return ""


async def _watch_readiness(health: health_aio.HealthServicer, ready: Mapping[str, Check]) -> None:
    """Say SERVING while all of `ready` pass, NOT_SERVING while one raises; the log names those."""
    readiness_log = ReadinessLog()
    served: bool | None = None
    while True:
        whys = await asyncio.gather(*map(_failure, ready.values()))
        failures = {name: why for name, why in zip(ready, whys, strict=True) if why}
        readiness_log.tell(failures)
        serves = not failures
        if serves is not served:
            status = health_pb2.HealthCheckResponse.SERVING if serves else health_pb2.HealthCheckResponse.NOT_SERVING
            await health.set("", status)
        served = serves
        await asyncio.sleep(0.3 if failures else 2.0)


def _server(settings: ServiceSettings, edge: Edge, grace_seconds: float) -> grpc.aio.Server:
    age = settings.max_connection_age_seconds * random.uniform(0.9, 1.1)  # noqa: S311 - spread, no secret
    options = [
        *TRANSPORT_OPTIONS,
        ("grpc.max_connection_age_ms", int(age * 1000)),
        # Nothing else ends a call whose answer is not read, if its client lives and set no deadline.
        ("grpc.max_connection_age_grace_ms", int(grace_seconds * 1000)),
        # Many clients ping each 10 s, idle ones too; by default one that pings within two hours is sent away.
        ("grpc.keepalive_permit_without_calls", 1),
        ("grpc.http2.min_ping_interval_without_data_ms", 5_000),
        # Whoever comes beyond it is cut off, and a channel of ours goes to another replica.
        ("grpc.max_allowed_incoming_connections", _MOST_CONNECTIONS),
        ("grpc.so_reuseport", 0),
    ]
    return grpc.aio.server(interceptors=[edge], options=options)


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
    register: Callable[[grpc.aio.Server], None],
    *,
    service_names: Sequence[str],
    ready: Mapping[str, Check],
    background: Sequence[Coroutine[Any, Any, None]] = (),
    on_drain: Callable[[], None] = lambda: None,
    grace_seconds: float = LONGEST_GRPC_SECONDS,
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
        grace_seconds: how long the calls of an aged connection may go on; 22 days by default, longer than any upload.
    """
    stop = asyncio.Event()
    for signum in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(signum, stop.set)

    drained = asyncio.Event()
    edge = Edge(settings.max_unary_seconds, drained)
    server = _server(settings, edge, grace_seconds)
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
        await health.enter_graceful_shutdown()
        await asyncio.sleep(settings.drain_notice_seconds)
        # Its first step, before it waits, is to take no more calls.
        stopping = asyncio.ensure_future(server.stop(settings.drain_seconds))
        await asyncio.sleep(0)
        drained.set()
        on_drain()
        await stopping
        if probed is not None:
            await probed.stop(0)
    finally:
        for task in (stopped, *loops):
            task.cancel()
        # Loops that tidy up, such as a worker's drain, and calls that were cut off are waited for side by side, but not
        # for ever. What is left then is cancelled once more as the event loop ends.
        await asyncio.gather(
            edge.wait(TIDY_SECONDS),
            asyncio.wait((stopped, *loops), timeout=settings.drain_seconds + TIDY_SECONDS),
        )
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
