"""`python -m services.ffmpeg.worker`: wires one worker. SIGTERM drains it."""

from __future__ import annotations

import contextlib
from collections.abc import Callable

from services.common.channel import open_channel
from services.common.process import run
from services.common.redis_client import connect
from services.common.s3_bytes import S3Bytes
from services.common.s3_objects import S3Objects
from services.common.server import serve
from services.common.upload_client import UploadClient
from services.ffmpeg.download import DownloadLimits, Fetcher
from services.ffmpeg.isolation import Isolation, require_ready
from services.ffmpeg.job_state import JobKind
from services.ffmpeg.machine import examine_machine, work_root
from services.ffmpeg.outputs import Outputs
from services.ffmpeg.redis_job_store import RedisJobStore
from services.ffmpeg.settings import WorkerSettings
from services.ffmpeg.worker.command_handler import CommandHandler
from services.ffmpeg.worker.handler import Handlers
from services.ffmpeg.worker.inputs import Inputs, StreamedVideos
from services.ffmpeg.worker.join_handler import JoinHandler
from services.ffmpeg.worker.probe_handler import ProbeHandler
from services.ffmpeg.worker.transcribe_handler import TranscribeHandler
from services.ffmpeg.worker.worker import Worker, WorkerTimes

MakeHandlers = Callable[[contextlib.AsyncExitStack, WorkerSettings, Isolation, Outputs], Handlers]


async def serve_worker(settings: WorkerSettings, make_handlers: MakeHandlers) -> None:
    """Run a worker until it is told to stop; without the isolation that is asked for it stays, and takes nothing."""
    async with contextlib.AsyncExitStack() as stack:
        client = await stack.enter_async_context(connect(settings))
        objects = await stack.enter_async_context(S3Objects.open(settings))
        data = await stack.enter_async_context(S3Bytes.open(settings))
        root = stack.enter_context(work_root(settings.work_dir))
        isolation = await examine_machine(settings, root)
        store, outputs = RedisJobStore(client, settings.policy), Outputs(objects, data)
        worker = Worker(
            store,
            make_handlers(stack, settings, isolation, outputs) if isolation and isolation.ready else {},
            settings.slots,
            root,
            fence=outputs.abort_earlier,
            times=WorkerTimes(
                lease=settings.job_lease_seconds,
                renew=settings.job_renew_seconds,
                stalled_check=settings.job_stalled_check_seconds,
                drain=settings.drain_seconds,
                kill=settings.job_kill_seconds,
            ),
        )

        async def machine_is_fit() -> None:
            require_ready(isolation)
            worker.require_room()

        async def redis_gives_jobs() -> None:
            await store.ping()
            worker.require_claims()

        await serve(
            settings,
            # No calls of its own: the server answers health checks.
            lambda _: None,
            service_names=(),
            ready={"machine": machine_is_fit, "S3": objects.check, "Redis": redis_gives_jobs},
            background=[worker.run()],
        )


def handlers(
    stack: contextlib.AsyncExitStack, settings: WorkerSettings, isolation: Isolation, outputs: Outputs
) -> Handlers:
    """The kinds of jobs that this worker knows; what they open is closed with the stack."""
    fetcher = Fetcher(settings.addresses, DownloadLimits(max_bytes=settings.command_input_bytes))
    stream, uploads, catalog = (
        open_channel(target, settings)
        for target in (settings.stream_target, settings.upload_target, settings.catalog_target)
    )
    for opened in (fetcher, stream, uploads, catalog):
        stack.push_async_callback(opened.close)
    inputs = Inputs(fetcher, StreamedVideos(stream), settings.command_input_bytes)
    probe = ProbeHandler(
        isolation.sandbox,
        objects=outputs.objects,
        data=outputs.data,
        catalog=catalog,
        upload_bytes=settings.library_max_bytes,
        upload_types=settings.library_types,
        whole_bytes=settings.command_input_bytes,
    )
    transcribe = TranscribeHandler(
        isolation.sandbox,
        objects=outputs.objects,
        data=outputs.data,
        catalog=catalog,
        settings=settings,
        video_bytes=settings.command_input_bytes,
    )
    return {
        JobKind.COMMAND: CommandHandler(isolation.sandbox, inputs, outputs, settings.limits),
        JobKind.PROBE: probe,
        JobKind.TRANSCRIBE: transcribe,
        JobKind.JOIN: JoinHandler(isolation.sandbox, UploadClient(uploads), outputs, settings.join_limits),
    }


def main() -> None:
    """Entry point."""
    run("ffmpeg-worker", WorkerSettings, lambda settings: serve_worker(settings, handlers))


if __name__ == "__main__":
    main()
