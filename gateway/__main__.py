"""The gateway process: `python -m gateway`."""

from __future__ import annotations

import asyncio
import contextlib
import signal

import aiohttp
from aiohttp import web

from gateway import api_docs
from gateway.auth import Authenticator
from gateway.block_cache import BlockCache
from gateway.draining import drain, last_answers
from gateway.endless import Endless
from gateway.held_bodies import held_bodies
from gateway.http_server import Runner
from gateway.idle_connections import IdleConnections
from gateway.keys import APPENDS, ENDLESS, JOBS, LIBRARY, PLAYBACK, READINESS, SETTINGS, TRANSCRIPTS, UPLOADS
from gateway.middleware import cors, edge
from gateway.operations.appends import Appends
from gateway.operations.jobs import Jobs
from gateway.operations.library import Library
from gateway.operations.playback import Playback
from gateway.operations.transcripts import Transcripts
from gateway.readiness import Readiness
from gateway.routes import DIALECTS
from gateway.routing import register
from gateway.settings import GatewaySettings
from gateway.stream_backend import StreamBackend
from gateway.upload_backend import UploadBackend
from services.common import logs, metrics, process
from services.common.channel import open_channel
from services.common.settings import host_and_port, refuse

log = logs.get_logger(__name__)

# Bodies that are read whole are small JSON or forms; videos are streamed.
_LARGEST_FORM = 2**20
_LAST_SECONDS = 1.0


async def _serve(settings: GatewaySettings) -> None:
    async with contextlib.AsyncExitStack() as stack:
        http = await stack.enter_async_context(aiohttp.ClientSession(cookie_jar=aiohttp.DummyCookieJar()))
        targets = {
            "upload": settings.upload_target,
            "stream": settings.stream_target,
            "catalog": settings.catalog_target,
        }
        channels = {
            name: await stack.enter_async_context(open_channel(target, settings)) for name, target in targets.items()
        }
        cors_middleware, mark_response = cors(settings.cors_origins)
        authenticator = Authenticator(settings, http)
        idle = IdleConnections(settings.first_request_seconds, settings.next_request_seconds)
        operations = [operation for dialect in DIALECTS for operation in dialect]
        operations += api_docs.routes(operations)
        open_handlers = {operation.handler for operation in operations if operation.open}
        app = web.Application(
            middlewares=[
                edge(authenticator, idle, settings.anonymous_access, open_handlers),
                cors_middleware,
                held_bodies(settings.held_body_bytes),
            ],
            client_max_size=_LARGEST_FORM,
        )
        app.on_response_prepare.append(mark_response)
        app[SETTINGS] = settings
        app[READINESS] = readiness = Readiness(channels)
        app.on_response_prepare.append(last_answers(readiness))
        app[UPLOADS] = uploads = UploadBackend(channels["upload"], settings.upload_max_seconds)
        app[APPENDS] = Appends(uploads, channels["catalog"], settings.append_max_bytes)
        app[PLAYBACK] = Playback(
            StreamBackend(channels["stream"]), BlockCache(settings.block_cache_bytes), settings.access_ttl_seconds
        )
        app[LIBRARY] = Library(channels["catalog"], channels["upload"])
        app[TRANSCRIPTS] = Transcripts(channels["catalog"])
        # Not among those that readiness asks: without ffmpeg every other dialect still serves.
        ffmpeg_channel = await stack.enter_async_context(open_channel(settings.ffmpeg_target, settings))
        asking_why = open_channel(settings.ffmpeg_target, settings, serving_only=False)
        app[JOBS] = Jobs(ffmpeg_channel, await stack.enter_async_context(asking_why))
        app[ENDLESS] = Endless()
        register(app.router, operations)
        await _run(app, settings, readiness, idle)


async def _listen(runner: Runner, name: str, host: str, port: int, *, shared: bool = False) -> None:
    try:
        await runner.listen(host, port, shared=shared)
    except OSError as error:
        refuse(f"{name}: cannot listen on {host}:{port}: {error.strerror}")


async def _run(app: web.Application, settings: GatewaySettings, readiness: Readiness, idle: IdleConnections) -> None:
    stop = asyncio.Event()
    for signum in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(signum, stop.set)
    runner = Runner(
        app,
        unread_bytes=settings.unread_answer_bytes,
        handle_signals=False,
        access_log=None,
        handler_cancellation=True,
        keepalive_timeout=settings.next_request_seconds,
        # The drain has waited for requests already; this is for their last bytes.
        shutdown_timeout=_LAST_SECONDS,
    )
    await runner.setup()
    if settings.own_listen:
        await _listen(runner, "OWN_LISTEN", *host_and_port(settings.own_listen))
    await _listen(runner, "PORT", settings.host, settings.port, shared=bool(settings.own_listen))
    metrics.serve_metrics(settings.metrics_listen)
    log.info("listening", address=f"{settings.host}:{settings.port}")
    watch = asyncio.create_task(idle.watch(runner.server)) if runner.server is not None else None
    await stop.wait()
    log.info("draining", seconds=settings.drain_seconds)
    await drain(
        runner,
        idle,
        readiness,
        app[ENDLESS],
        notice_seconds=settings.drain_notice_seconds,
        drain_seconds=settings.drain_seconds,
    )
    if watch is not None:
        watch.cancel()
    log.info("stopped")


def main() -> None:
    """Serve until told to stop."""
    process.run("gateway", GatewaySettings, _serve)


if __name__ == "__main__":
    main()
