"""A Redis without room, which refuses whatever adds to it: it empties itself, and no job suffers."""

import asyncio
import uuid
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import redis.asyncio

from deploy.local.embedded import EmbeddedRedis
from services.common.clock import SystemClock
from services.common.error_catalog import ErrorReason
from services.common.errors import ReelwayError
from services.common.lease import Lease
from services.common.redis_client import connect
from services.common.settings import RedisSettings
from services.common.task_failure import TaskFailure
from services.common.tasks import end
from services.ffmpeg.job import JobFault, JobLease
from services.ffmpeg.job_policy import JobPolicy
from services.ffmpeg.job_state import JobKind
from services.ffmpeg.redis_job_store import RedisJobStore
from services.ffmpeg.sweeper import Sweeper
from services.ffmpeg.work_folder import WorkRoot
from services.ffmpeg.worker.handler import JobContext
from services.ffmpeg.worker.worker import Worker, WorkerTimes
from tests.faults.jobs_rig import add
from tests.support.waiting import until


@pytest.fixture
async def client(tmp_path: Path) -> AsyncIterator[redis.asyncio.Redis]:
    server = EmbeddedRedis(tmp_path / "redis")
    await server.start()
    try:
        async with connect(RedisSettings(redis_url=server.url)) as found:
            yield found
    finally:
        await server.stop()


async def fill(client: redis.asyncio.Redis) -> None:
    await client.config_set("maxmemory", 1)


async def make_room(client: redis.asyncio.Redis) -> None:
    await client.config_set("maxmemory", 0)


async def test_records_whose_time_is_over_make_room(client: redis.asyncio.Redis) -> None:
    store = RedisJobStore(client, JobPolicy(keep_failed_seconds=0))
    for _ in range(250):
        await store.cancel(await add(store))
    await fill(client)
    no_outputs: Any = None
    sweeper = Sweeper(store, no_outputs, Lease(client, "{ff}:sweep", 60), SystemClock(), timedelta(days=1))
    sweeping = asyncio.create_task(sweeper.run(0.05))

    async def all_gone() -> bool:
        return not [key async for key in client.scan_iter("{ff}:job:*")]

    await until(all_gone)
    await end(sweeping)


async def claim(store: RedisJobStore) -> JobLease | None:
    return await store.claim("w", uuid.uuid4().hex, [JobKind.PROBE])


async def take(store: RedisJobStore) -> JobLease:
    lease = await claim(store)
    assert lease is not None
    return lease


async def test_no_job_begins_whose_end_could_not_be_written(client: redis.asyncio.Redis) -> None:
    store = RedisJobStore(client, JobPolicy())
    job_id = await add(store)
    await fill(client)
    await refused(store)
    await make_room(client)
    lease = await take(store)
    assert (lease.job.id, lease.job.attempt) == (job_id, 1)


async def test_no_retry_begins_whose_end_could_not_be_written(client: redis.asyncio.Redis) -> None:
    store = RedisJobStore(client, JobPolicy(backoff_seconds=0))
    job_id = await add(store)
    assert await store.fail(await take(store), JobFault(TaskFailure.INTERNAL, "x", may_pass=True)) == "retry"
    await fill(client)
    await refused(store)
    await make_room(client)
    lease = await take(store)
    assert (lease.job.id, lease.job.attempt, lease.job.lost_workers) == (job_id, 2, 0)


async def test_a_worker_whose_claims_are_refused_is_not_ready(client: redis.asyncio.Redis, tmp_path: Path) -> None:
    """Redis answers its pings: nothing else would say why the jobs wait."""

    async def nothing(context: JobContext) -> dict[str, Any]:
        return {}

    async def fence(context: JobContext) -> None: ...

    def refused() -> str:
        try:
            worker.require_claims()
        except ReelwayError as error:
            return str(error)
        return ""

    store, slots, root = RedisJobStore(client, JobPolicy()), dict.fromkeys(JobKind, 1), WorkRoot(tmp_path / "work")
    worker = Worker(store, {JobKind.PROBE: nothing}, slots, root, fence=fence, times=WorkerTimes())
    await add(store)
    await fill(client)
    working = asyncio.create_task(worker.run())
    await until(lambda: "maxmemory" in refused())
    await make_room(client)
    await until(lambda: not refused())
    await end(working)


async def test_what_its_owners_quota_holds_back_stays_in_line(client: redis.asyncio.Redis) -> None:
    store = RedisJobStore(client, JobPolicy(running_max=1))
    first, second = await add(store), await add(store)
    lease = await take(store)
    await fill(client)
    await refused(store)
    await make_room(client)
    assert await claim(store) is None
    await store.complete(lease, {})
    assert lease.job.id == first
    assert (await take(store)).job.id == second


async def refused(store: RedisJobStore) -> None:
    with pytest.raises(ReelwayError) as error:
        await claim(store)
    assert error.value.reason is ErrorReason.STORE_UNAVAILABLE
