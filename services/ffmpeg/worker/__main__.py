"""`python -m services.ffmpeg.worker`: wires one worker. SIGTERM drains it."""

from __future__ import annotations

import contextlib
from collections.abc import Callable

from services.common.redis_client import connect
from services.common.s3_bytes import S3Bytes
from services.common.s3_objects import S3Objects
from services.common.server import run, serve
from services.common.settings import load
from services.ffmpeg.outputs import Outputs
from services.ffmpeg.redis_job_store import RedisJobStore
from services.ffmpeg.settings import WorkerSettings
from services.ffmpeg.worker.handler import Handlers
from services.ffmpeg.worker.worker import Worker, WorkerTimes

MakeHandlers = Callable[[WorkerSettings, Outputs], Handlers]


async def work(settings: WorkerSettings, make_handlers: MakeHandlers) -> None:
    """Run a worker until it is told to stop."""
    async with contextlib.AsyncExitStack() as stack:
        client = await stack.enter_async_context(connect(settings))
        objects = await stack.enter_async_context(S3Objects.open(settings))
        data = await stack.enter_async_context(S3Bytes.open(settings))
        store = RedisJobStore(client, settings.policy)
        worker = Worker(
            store,
            make_handlers(settings, Outputs(objects, data)),
            settings.slots,
            settings.work_dir,
            times=WorkerTimes(
                lease=settings.job_lease_seconds,
                renew=settings.job_renew_seconds,
                stalled_check=settings.job_stalled_check_seconds,
                drain=settings.drain_seconds,
                kill=settings.job_kill_seconds,
            ),
        )
        await serve(
            "ffmpeg-worker",
            settings,
            # No calls of its own: the server answers health checks.
            lambda _: None,
            service_names=(),
            ready=store.ping,
            background=[worker.run()],
        )


def handlers(settings: WorkerSettings, outputs: Outputs) -> Handlers:
    """The kinds of jobs that this worker knows."""
    return {}


def main() -> None:
    """Entry point."""
    settings = load(WorkerSettings)
    run("ffmpeg-worker", settings, lambda: work(settings, handlers))


if __name__ == "__main__":
    main()
