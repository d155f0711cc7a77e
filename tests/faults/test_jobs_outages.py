"""Faults of our own machinery cost no task: a worker without room, a store that is away."""

from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest
import redis.asyncio

from services.ffmpeg.job_policy import JobPolicy
from services.ffmpeg.job_state import JobKind
from services.ffmpeg.redis_job_store import RedisJobStore
from tests.faults.jobs_rig import Workers, add, gather_states, get, until_state
from tests.support.chaos_proxy import chaos_proxy
from tests.support.servers import S3Server
from tests.support.waiting import until

JOBS = 30


@pytest.fixture
async def store(clean_redis: str) -> AsyncIterator[RedisJobStore]:
    async with redis.asyncio.Redis.from_url(clean_redis, decode_responses=True) as client:
        yield RedisJobStore(client, JobPolicy())


@pytest.fixture(name="full")
def _full(tmp_path: Path) -> Path:
    """A folder without room."""
    folder = tmp_path / "full-disk"
    folder.mkdir()
    (folder / "full").touch()
    return folder


@pytest.fixture
async def workers(clean_redis: str, juicefs_s3: S3Server, tmp_path: Path) -> AsyncIterator[Workers]:
    rig = Workers(clean_redis, juicefs_s3, tmp_path)
    yield rig
    await rig.end()


async def test_a_worker_whose_disk_is_full_leaves_the_jobs_to_those_that_have_room(
    store: RedisJobStore, workers: Workers, full: Path
) -> None:
    await workers.start(WORK_DIR=str(full))
    await until(lambda: "worker started" in workers.log)
    ids = [await add(store, pause=0.1, seconds=0.3, full=str(full)) for _ in range(JOBS)]
    # It has met its full disk before there is another worker.
    await until(lambda: "no jobs are taken" in workers.log)
    await workers.start()

    async def all_ended() -> bool:
        return not (await store.stats()).kinds[JobKind.PROBE].unfinished

    await until(all_ended, 60)
    jobs = await gather_states(store, ids)
    assert Counter(job.state for job in jobs.values()) == {"completed": JOBS}
    assert workers.log.count("outcome=outage") < JOBS / 2, "it went on claiming"


async def test_a_worker_goes_on_by_itself_once_its_disk_has_room(
    store: RedisJobStore, workers: Workers, full: Path
) -> None:
    await workers.start(WORK_DIR=str(full))
    job_id = await add(store, full=str(full))
    await until(lambda: "not ready" in workers.log)
    (full / "full").unlink()
    job = await until_state(store, job_id, "completed")
    assert (job.tries, job.failure) == (0, None)


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
