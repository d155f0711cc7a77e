"""A cancel ends a job that waits at once, and reaches the worker of one that runs."""

import uuid

import redis.asyncio

from services.common.redis_client import connect
from services.common.settings import RedisSettings
from services.ffmpeg.job import Progress
from services.ffmpeg.job_state import JobState
from services.ffmpeg.redis_job_store import Cancelled, Holding, RedisJobStore
from tests.contract.job_store.rig import PASSING, POLICY, add, expire_lease, make_due, nothing_to_claim, state, take
from tests.support.chaos_proxy import chaos_proxy


async def test_a_waiting_job_is_cancelled_at_once(store: RedisJobStore) -> None:
    job_id = await add(store)
    assert await store.cancel(job_id) is Cancelled.CANCELLED
    assert await state(store, job_id) is JobState.CANCELLED
    assert await nothing_to_claim(store)
    assert await store.cancel(job_id) is Cancelled.FINISHED
    assert await store.cancel(str(uuid.uuid4())) is Cancelled.MISSING


async def test_a_cancel_whose_answer_was_lost_is_no_cancel_of_a_finished_job(clean_redis: str) -> None:
    async with chaos_proxy(clean_redis) as proxy, connect(RedisSettings(redis_url=f"redis{proxy.url[4:]}")) as client:
        store = RedisJobStore(client, POLICY)
        job_id = await add(store)
        proxy.break_downloads(1)
        assert await store.cancel(job_id) is Cancelled.CANCELLED
        assert not proxy.unused
        assert await store.cancel(job_id) is Cancelled.FINISHED


async def test_who_cancelled_a_running_job_is_told_so_when_it_has_ended(store: RedisJobStore) -> None:
    """The answer to the first call was lost, and the worker was quicker than the second."""
    job_id = await add(store)
    lease = await take(store)
    assert await store._call("cancel", job_id, "nonce", 60_000) == Cancelled.CANCELLING
    assert await store.fail(lease, PASSING) == "cancelled"
    assert await store._call("cancel", job_id, "nonce", 60_000) == Cancelled.CANCELLED
    assert await store.cancel(job_id) is Cancelled.FINISHED


async def test_a_job_waiting_for_its_retry_is_cancelled_at_once(
    store: RedisJobStore, client: redis.asyncio.Redis
) -> None:
    job_id = await add(store)
    await store.fail(await take(store), PASSING)
    assert await store.cancel(job_id) is Cancelled.CANCELLED
    await make_due(client)
    assert await nothing_to_claim(store)


async def test_cancel_of_a_running_job_reaches_its_worker_in_every_answer(store: RedisJobStore) -> None:
    job_id = await add(store)
    lease = await take(store)
    assert await store.cancel(job_id) is Cancelled.CANCELLING
    assert await store.renew("w1", [lease]) == [Holding.CANCEL]
    assert await store.report(lease, Progress(0.1)) is Holding.CANCEL
    assert await store.begin_upload(lease, "u", "k") is Holding.CANCEL
    assert await store.complete(lease, {}) is Holding.CANCEL
    assert await store.fail(lease, PASSING) == "cancelled"
    assert await state(store, job_id) is JobState.CANCELLED


async def test_a_cancelled_job_whose_worker_died_ends_cancelled(
    store: RedisJobStore, client: redis.asyncio.Redis
) -> None:
    job_id = await add(store)
    await take(store)
    await store.cancel(job_id)
    await expire_lease(client, job_id)
    assert await store.reap() == {job_id: "cancelled"}
    assert await state(store, job_id) is JobState.CANCELLED
