"""Redis' clock may be set back: what the queue wrote as times to come is then further away than anything can be."""

import redis.asyncio

from services.ffmpeg.job import JobLease
from services.ffmpeg.job_policy import JobPolicy
from services.ffmpeg.redis_job_store import RedisJobStore
from tests.contract.job_store.rig import PASSING, add, make_due, take
from tests.support.waiting import until

HOUR_MS = 3_600_000
# The longest pause there is.
OUTAGE_PAUSE_MS = 300_000
LEASE = JobPolicy(lease_seconds=0.2, tries_max=3, backoff_seconds=0.05)
LONG_LEASE = JobPolicy(lease_seconds=30, tries_max=3, backoff_seconds=30)


async def running(store: RedisJobStore) -> JobLease:
    await add(store)
    return await take(store)


async def scores(client: redis.asyncio.Redis, name: str) -> dict[str, float]:
    found: list[tuple[str, float]] = await client.zrange(f"{{ff}}:{name}", 0, -1, withscores=True)  # type: ignore[assignment]
    return dict(found)


async def an_hour_back(client: redis.asyncio.Redis) -> None:
    """What a clock that was set back by an hour makes of what was written before."""
    for name in ("active", "delayed", "workers"):
        if moved := {member: at + HOUR_MS for member, at in (await scores(client, name)).items()}:
            await client.zadd(f"{{ff}}:{name}", moved)
    async for key in client.scan_iter("{ff}:job:*"):
        if await client.hexists(key, "due"):
            await client.hincrby(key, "due", HOUR_MS)


async def test_a_dead_worker_s_job_is_found_after_a_lease_all_the_same(client: redis.asyncio.Redis) -> None:
    store = RedisJobStore(client, LEASE)
    lease = await running(store)
    await store.renew("w1", [lease])
    await an_hour_back(client)
    found: dict[str, str] = {}

    async def reaped() -> bool:
        found.update(await store.reap())
        return bool(found)

    await until(reaped)
    assert found == {lease.job.id: "requeued"}

    async def counts_as_gone() -> bool:
        await store.reap()
        return (await store.stats()).workers == 0

    await until(counts_as_gone)


async def test_a_retry_comes_after_the_longest_pause_all_the_same(client: redis.asyncio.Redis) -> None:
    store = RedisJobStore(client, LEASE)
    lease = await running(store)
    assert await store.fail(lease, PASSING) == "retry"
    await an_hour_back(client)
    await store.reap()
    waiting = await store.get(lease.job.id)
    assert waiting is not None
    (due,) = (await scores(client, "delayed")).values()
    # What its owner is told is when it comes.
    assert waiting.due_ms == due
    seconds, _ = await client.time()
    assert due <= (seconds + 1) * 1000 + OUTAGE_PAUSE_MS


async def test_what_is_within_a_lease_or_a_pause_stays_as_it_is(client: redis.asyncio.Redis) -> None:
    store = RedisJobStore(client, LONG_LEASE)
    first, second = await running(store), await running(store)
    await store.renew("w1", [first])
    for _ in range(2):
        await store.fail(second, PASSING)
        before = [await scores(client, name) for name in ("active", "delayed", "workers")]
        assert all(before)
        assert await store.reap() == {}
        assert [await scores(client, name) for name in ("active", "delayed", "workers")] == before
        # At once, for the second try: its pause is the longest there is.
        await make_due(client)
        second = await take(store)
    assert second.job.tries == 2
