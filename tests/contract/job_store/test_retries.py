"""What becomes of a job whose attempt failed: by its own fault, by an outage, with its worker."""

import pytest
import redis.asyncio

from services.ffmpeg.job_state import JobKind, JobState
from services.ffmpeg.redis_job_store import RedisJobStore
from tests.contract.job_store.rig import (
    FAULT,
    OUTAGE,
    PASSING,
    POLICY,
    add,
    expire_lease,
    get,
    make_due,
    nothing_to_claim,
    redis_ms,
    state,
    take,
)


async def begin_outage(client: redis.asyncio.Redis, job_id: str, seconds_ago: float) -> None:
    await client.hset(f"{{ff}}:job:{job_id}", "outage", str(await redis_ms(client) - int(seconds_ago * 1000)))


async def test_a_passing_fault_is_tried_three_times_with_doubling_pauses(
    client: redis.asyncio.Redis, store: RedisJobStore
) -> None:
    job_id = await add(store)
    pauses = []
    for wanted in ("retry", "retry", "failed"):
        lease = await take(store)
        before = await redis_ms(client)
        assert await store.fail(lease, PASSING) == wanted
        found = await get(store, job_id)
        if found.due_ms:
            pauses.append((found.due_ms - before) / 1000)
        assert await nothing_to_claim(store)
        await make_due(client)
    assert pauses == pytest.approx([POLICY.backoff_seconds, 2 * POLICY.backoff_seconds], abs=10)
    assert (found.state, found.failure, found.attempt, found.tries) == (JobState.FAILED, FAULT.failure, 3, 3)


async def test_a_retry_that_is_due_waits_for_nobody_s_claim(store: RedisJobStore, client: redis.asyncio.Redis) -> None:
    """Workers that have nothing to do hear of it."""
    await add(store)
    await store.fail(await take(store), PASSING)
    await make_due(client)
    await store.reap()
    stats = await store.stats()
    assert (stats.delayed, stats.kinds[JobKind.COMMAND].ready) == (0, 1)


async def test_an_outage_is_no_try_and_its_pauses_are_as_long_as_it_has_lasted(
    client: redis.asyncio.Redis, store: RedisJobStore
) -> None:
    job_id = await add(store)
    pauses = []
    for lasted in (0, 80, 120, 7200, POLICY.outage_seconds - 60):
        lease = await take(store)
        if lasted:
            await begin_outage(client, job_id, lasted)
        before = await redis_ms(client)
        assert await store.fail(lease, OUTAGE) == "outage"
        found = await get(store, job_id)
        assert found.due_ms is not None
        pauses.append((found.due_ms - before) / 1000)
        assert await nothing_to_claim(store)
        await make_due(client)
    assert pauses == pytest.approx([POLICY.backoff_seconds, 80, 120, 300, 300], abs=10)
    found = await get(store, job_id)
    assert (found.state, found.tries, found.failure) == (JobState.PENDING, 0, None)
    # What is the job's own fault has its tries still.
    for wanted in ("retry", "retry", "failed"):
        assert await store.fail(await take(store), PASSING) == wanted
        await make_due(client)


async def test_an_outage_without_an_end_ends_the_job(client: redis.asyncio.Redis, store: RedisJobStore) -> None:
    job_id = await add(store)
    assert await store.fail(await take(store), OUTAGE) == "outage"
    await begin_outage(client, job_id, POLICY.outage_seconds + 1)
    for wanted in ("retry", "retry", "failed"):
        await make_due(client)
        assert await store.fail(await take(store), OUTAGE) == wanted
    found = await get(store, job_id)
    assert (found.state, found.failure, found.tries) == (JobState.FAILED, FAULT.failure, 3)


async def test_an_outage_ends_after_a_clock_that_was_set_back(
    client: redis.asyncio.Redis, store: RedisJobStore
) -> None:
    job_id = await add(store)
    await begin_outage(client, job_id, -1e6)
    assert await store.fail(await take(store), OUTAGE) == "outage"
    assert int(await client.hget(f"{{ff}}:job:{job_id}", "outage") or 0) <= await redis_ms(client)


async def test_a_lasting_fault_fails_at_once(store: RedisJobStore) -> None:
    job_id = await add(store)
    assert await store.fail(await take(store), FAULT) == "failed"
    assert await state(store, job_id) is JobState.FAILED


async def test_a_job_that_takes_four_workers_with_it_is_poison(
    store: RedisJobStore, client: redis.asyncio.Redis
) -> None:
    job_id = await add(store)
    told = []
    for n in range(4):
        await take(store, f"w{n}")
        await expire_lease(client, job_id)
        told.append((await store.reap())[job_id])
    assert told == ["requeued", "requeued", "requeued", "poison"]
    found = await get(store, job_id)
    assert found.failure is not None
    assert (found.state, found.failure.reason) == (JobState.FAILED, "POISON")


async def test_a_job_whose_retry_began_is_due_no_more(store: RedisJobStore, client: redis.asyncio.Redis) -> None:
    job_id = await add(store)
    assert await store.fail(await take(store), PASSING) == "retry"
    assert (await get(store, job_id)).due_ms is not None
    await make_due(client)
    await take(store)
    assert (await get(store, job_id)).due_ms is None
