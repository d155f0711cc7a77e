"""The front of the ffmpeg service: `python -m services.ffmpeg`."""

from __future__ import annotations

import asyncio
import contextlib
from datetime import timedelta

from prometheus_client import Gauge
from reelway.v1 import ffmpeg_pb2_grpc

from services.common.clock import SystemClock
from services.common.errors import ReelwayError
from services.common.lease import Lease
from services.common.process import run
from services.common.redis_client import connect
from services.common.s3_bytes import S3Bytes
from services.common.s3_objects import S3Objects
from services.common.server import serve
from services.ffmpeg.commands import Commands
from services.ffmpeg.isolation import require_ready
from services.ffmpeg.jobs import Jobs
from services.ffmpeg.machine import examine_machine, work_root
from services.ffmpeg.outputs import Outputs
from services.ffmpeg.queue_events import QueueEvents
from services.ffmpeg.redis_job_store import TAG, RedisJobStore
from services.ffmpeg.servicer import FfmpegServicer
from services.ffmpeg.settings import FrontSettings
from services.ffmpeg.sweeper import Sweeper

UNFINISHED = Gauge("reelway_jobs_unfinished", "Jobs waiting or running", ["kind"])
OLDEST = Gauge("reelway_jobs_oldest_seconds", "Age of the oldest unfinished job", ["kind"])
_GAUGES_SECONDS = 10.0


async def _gauge(store: RedisJobStore) -> None:
    while True:
        with contextlib.suppress(ReelwayError):
            for kind, found in (await store.stats()).kinds.items():
                UNFINISHED.labels(kind.value).set(found.unfinished)
                OLDEST.labels(kind.value).set(found.oldest_ms / 1000)
        await asyncio.sleep(_GAUGES_SECONDS)


async def _serve(settings: FrontSettings) -> None:
    async with contextlib.AsyncExitStack() as stack:
        client = await stack.enter_async_context(connect(settings))
        objects = await stack.enter_async_context(S3Objects.open(settings))
        data = await stack.enter_async_context(S3Bytes.open(settings))
        root = stack.enter_context(work_root(settings.work_dir))
        isolation = await examine_machine(settings, root)
        store, outputs = RedisJobStore(client, settings.policy), Outputs(objects, data)
        events = QueueEvents(store)
        jobs = Jobs(store, events, Commands(settings.limits, settings.addresses, isolation))
        servicer = FfmpegServicer(jobs, outputs, isolation, url_seconds=settings.output_url_seconds)
        sweeper = Sweeper(
            store,
            outputs,
            Lease(client, f"{TAG}:sweep", 3 * settings.sweep_seconds + 30),
            SystemClock(),
            timedelta(seconds=settings.job_keep_seconds + settings.output_url_seconds),
        )

        async def is_isolated() -> None:
            require_ready(isolation)

        await serve(
            settings,
            lambda server: ffmpeg_pb2_grpc.add_FfmpegServiceServicer_to_server(servicer, server),
            service_names=["reelway.v1.FfmpegService"],
            ready={"isolation": is_isolated, "Redis": store.ping},
            background=[events.run(), sweeper.run(settings.sweep_seconds), _gauge(store)],
            on_drain=events.close,
        )


def main() -> None:
    """Serve until told to stop."""
    run("ffmpeg", FrontSettings, _serve)


if __name__ == "__main__":
    main()
