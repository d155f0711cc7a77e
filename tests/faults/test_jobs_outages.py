"""Faults of our own machinery cost no task."""

from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest
import redis.asyncio

from services.ffmpeg.redis_job_store import JobPolicy, RedisJobStore
from tests.faults.jobs_rig import Workers, add, get, until_state
from tests.support.chaos_proxy import chaos_proxy
from tests.support.servers import S3Server
from tests.support.waiting import until


@pytest.fixture
async def store(clean_redis: str) -> AsyncIterator[RedisJobStore]:
    async with redis.asyncio.Redis.from_url(clean_redis, decode_responses=True) as client:
        yield RedisJobStore(client, JobPolicy())


async def test_a_store_that_is_away_costs_no_try(
    clean_redis: str, store: RedisJobStore, juicefs_s3: S3Server, tmp_path: Path
) -> None:
    async with chaos_proxy(juicefs_s3.endpoint_url) as proxy:
        rig = Workers(clean_redis, replace(juicefs_s3, endpoint_url=proxy.url), tmp_path)
        try:
            await rig.start()
            await until(lambda: "worker started" in rig.log)
            proxy.go_down()
            job_id = await add(store, outputs=["a.mp4"])

            async def put_off() -> bool:
                return (await get(store, job_id)).due_ms is not None

            await until(put_off, 60)
            assert (await get(store, job_id)).tries == 0
            proxy.come_back()
            await until_state(store, job_id, "completed")
        finally:
            await rig.end()
