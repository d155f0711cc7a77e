"""What one owner can make the store keep, and for how long, is bounded, on a real Redis."""

import pytest
import redis.asyncio

from services.common.caller import SYSTEM_USER
from services.ffmpeg.job_policy import JobPolicy
from services.ffmpeg.redis_job_store import RedisJobStore
from tests.contract.job_store.rig import FAULT, add, expire_lease, take

POLICY = JobPolicy(kept_max=3)


@pytest.fixture
def store(client: redis.asyncio.Redis) -> RedisJobStore:
    return RedisJobStore(client, POLICY)


async def end(store: RedisJobStore, job_id: str, how: str) -> None:
    if how == "cancel":
        await store.cancel(job_id)
        return
    lease = await take(store)
    assert lease.job.id == job_id
    if how.startswith("cancel, "):
        await store.cancel(job_id)
    match how:
        case "fail" | "cancel, fail":
            await store.fail(lease, FAULT)
        case "cancel, release":
            await store.release(lease)
        case "lose":
            await expire_lease(store._client, job_id)
            await store.reap()
        case _:
            await store.complete(lease, {"seconds": [1]})


async def kept(store: RedisJobStore, ids: list[str]) -> list[str]:
    return [job_id for job_id in ids if await store.get(job_id)]


async def test_whoever_cancels_for_ever_takes_no_more_of_redis_for_it(
    client: redis.asyncio.Redis, store: RedisJobStore
) -> None:
    async def taken() -> int:
        return sum([await client.memory_usage(key, samples=0) or 0 async for key in client.scan_iter("{ff}:*")])

    for number in range(5):
        await end(store, await add(store, idempotency_key=f"k{number}"), "cancel")
    after_five = await taken()
    for number in range(5, 200):
        await end(store, await add(store, idempotency_key=f"k{number}"), "cancel")
    assert await taken() < after_five + 1000


@pytest.mark.parametrize("owner", ["anna", ""], ids=["a user", "nobody"])
@pytest.mark.parametrize("how", ["cancel", "fail", "complete"])
async def test_the_records_that_ended_first_go_first(store: RedisJobStore, owner: str, how: str) -> None:
    # The first to be registered is the last to end: it stays.
    late = await add(store, owner)
    lease = await take(store)
    ids = [await add(store, owner) for _ in range(5)]
    for number, job_id in enumerate(ids, 1):
        await end(store, job_id, how)
        assert await kept(store, ids) == ids[max(0, number - 3) :]
    await store.complete(lease, {})
    assert await kept(store, [late, *ids]) == [late, *ids[3:]]


@pytest.mark.parametrize(
    ("how", "state", "keep_seconds"),
    [
        ("complete", "completed", 3600),
        ("fail", "failed", 7200),
        ("lose", "failed", 7200),
        ("cancel", "cancelled", 7200),
        ("cancel, fail", "cancelled", 7200),
        ("cancel, release", "cancelled", 7200),
    ],
)
async def test_a_record_is_kept_for_as_long_as_its_end_asks(
    client: redis.asyncio.Redis, how: str, state: str, keep_seconds: int
) -> None:
    store = RedisJobStore(client, JobPolicy(keep_completed_seconds=3600, keep_failed_seconds=7200, lost_workers_max=1))
    job_id = await add(store)
    await end(store, job_id, how)
    ended = await store.get(job_id)
    assert ended is not None
    assert ended.finished_ms is not None
    assert ended.state == state
    assert await client.zscore("{ff}:finished", job_id) == ended.finished_ms + keep_seconds * 1000


async def test_what_waits_or_runs_and_what_others_have_stays(store: RedisJobStore) -> None:
    running = await add(store)
    await take(store)
    waiting, other = await add(store), await add(store, "other")
    await store.cancel(other)
    for _ in range(10):
        await end(store, await add(store), "cancel")
    assert await kept(store, [running, waiting, other]) == [running, waiting, other]
    assert len(await store.list_owned("anna", 100)) == 5


async def test_the_system_s_own_records_stay_for_those_who_ask_what_became_of_them(store: RedisJobStore) -> None:
    """Whether a video's job is begun again, and when, is read from how it ended (due_jobs.py, clip_joiner.py)."""
    ids = [await add(store, SYSTEM_USER, idempotency_key=f"process-{number}") for number in range(10)]
    for job_id in ids:
        await store.cancel(job_id)
    assert [await add(store, SYSTEM_USER, idempotency_key=f"process-{number}") for number in range(10)] == ids


async def test_lists_and_idempotency_know_no_record_that_went(store: RedisJobStore) -> None:
    ids = []
    for number in range(5):
        ids.append(await add(store, idempotency_key=f"k{number}"))
        await end(store, ids[-1], "cancel")
    listed = [job.id for job in await store.list_owned("anna", 100)]
    assert sorted(listed) == sorted(ids[2:])
    assert [await add(store, idempotency_key=f"k{number}") for number in (2, 3, 4)] == ids[2:]
    assert await add(store, idempotency_key="k0") != ids[0]


async def test_a_bound_that_was_lowered_is_kept_soon(client: redis.asyncio.Redis) -> None:
    generous, store = RedisJobStore(client, JobPolicy()), RedisJobStore(client, POLICY)
    ids = [await add(generous) for _ in range(30)]
    for job_id in ids:
        await generous.cancel(job_id)
    assert await kept(store, ids) == ids
    more = [await add(store) for _ in range(5)]
    for job_id in more:
        await store.cancel(job_id)
    assert await kept(store, [*ids, *more]) == more[2:]


async def test_a_record_that_went_by_its_age_is_counted_no_more(client: redis.asyncio.Redis) -> None:
    """One that ended before it, and is kept for longer, stays in its place."""
    store = RedisJobStore(client, POLICY)
    ids = [await add(store) for _ in range(4)]
    for job_id in ids[:2]:
        await store.cancel(job_id)
    old = ids.pop(1)
    await client.zadd("{ff}:finished", {old: 1})
    assert await store.forget_due() == 1
    for job_id in ids[1:]:
        await store.cancel(job_id)
    assert await kept(store, ids) == ids
    assert await client.zcard("{ff}:finished:anna") == 3
