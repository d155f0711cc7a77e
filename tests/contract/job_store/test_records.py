"""One key is one job; what is kept of a job, in what order it is listed, and until when."""

import asyncio
import itertools

import pytest
import redis.asyncio

from services.common.redis_client import connect
from services.common.settings import RedisSettings
from services.ffmpeg.job_state import JobKind
from services.ffmpeg.redis_job_store import RedisJobStore
from tests.contract.job_store.rig import FAULT, POLICY, add, get, job, redis_ms, take, with_policy
from tests.support.waiting import until


@pytest.mark.parametrize("key", ["k", ""])
async def test_registering_again_answers_the_first_job(store: RedisJobStore, key: str) -> None:
    first = job(idempotency_key=key)
    assert (await store.register(first))[1]
    for again in (first, job(idempotency_key="k", spec={"n": 2}) if key else first):
        found, created = await store.register(again)
        assert (found.id, found.spec, created) == (first.id, {"n": 1}, False)
    assert (await store.stats()).kinds[JobKind.COMMAND].unfinished == 1


async def test_a_key_whose_job_was_lost_is_free(store: RedisJobStore, client: redis.asyncio.Redis) -> None:
    lost = await add(store, idempotency_key="k")
    await client.delete(f"{{ff}}:job:{lost}")
    assert (await store.register(job(idempotency_key="k")))[1]


async def test_idempotency_keys_of_two_owners_are_two_keys(store: RedisJobStore) -> None:
    assert await add(store, "a:b", idempotency_key="c") != await add(store, "a", idempotency_key="b:c")


async def test_of_many_registrations_with_one_key_one_wins(store: RedisJobStore) -> None:
    results = await asyncio.gather(*(store.register(job(idempotency_key="k")) for _ in range(20)))
    assert len({found.id for found, _ in results}) == 1
    assert sum(created for _, created in results) == 1


async def test_a_flood_of_calls_waits_for_its_turn(clean_redis: str) -> None:
    async with connect(RedisSettings(redis_url=clean_redis)) as client:
        store = RedisJobStore(client, POLICY)
        jobs = await asyncio.gather(*(store.register(job()) for _ in range(1000)))
    assert sum(created for _, created in jobs) == 1000


async def test_counts_return_to_nothing(store: RedisJobStore, client: redis.asyncio.Redis) -> None:
    for end in ("complete", "fail", "cancel", "release"):
        job_id = await add(store)
        if end == "cancel":
            await store.cancel(job_id)
            continue
        lease = await take(store)
        if end == "release":
            await store.release(lease)
            lease = await take(store)
        if end == "fail":
            await store.fail(lease, FAULT)
        else:
            await store.complete(lease, {})
    assert await client.hgetall("{ff}:owner:anna") == {}
    stats = await store.stats()
    assert (stats.active, stats.delayed, stats.kinds[JobKind.COMMAND].unfinished) == (0, 0, 0)


async def test_a_list_is_the_owners_own_newest_first_in_stable_pages(store: RedisJobStore) -> None:
    mine = [await add(store) for _ in range(25)]
    await add(store, "other")
    pages, before = [], None
    while page := await store.list_owned("anna", 10, before):
        pages.append(page)
        before = (page[-1].created_ms, page[-1].id)
        await add(store)
    listed = [found.id for found in itertools.chain(*pages)]
    assert sorted(listed) == sorted(mine)
    times = [found.created_ms for found in itertools.chain(*pages)]
    assert times == sorted(times, reverse=True)


async def test_finished_records_go_when_their_time_is_over(client: redis.asyncio.Redis) -> None:
    store = with_policy(client, keep_completed_seconds=60)
    done, waiting = await add(store, idempotency_key="k"), await add(store)
    await store.complete(await take(store), {})
    await client.zincrby("{ff}:finished", -30_000, done)
    assert await store.forget_due() == 0
    await client.zincrby("{ff}:finished", -30_000, done)
    assert await store.forget_due() == 1
    assert await store.get(done) is None
    assert await store.get(waiting) is not None
    assert [found.id for found in await store.list_owned("anna", 10)] == [waiting]
    assert (await store.register(job(idempotency_key="k")))[1]


async def test_a_key_is_known_however_long_its_job_takes(client: redis.asyncio.Redis) -> None:
    store = with_policy(client, keep_failed_seconds=0.001)
    first = await get(store, await add(store, idempotency_key="k"))

    async def longer_than_a_record_is_kept() -> bool:
        return await redis_ms(client) > first.created_ms + 10

    await until(longer_than_a_record_is_kept)
    assert await add(store, idempotency_key="k") == first.id


async def test_a_key_that_was_given_again_outlives_the_first_record(
    client: redis.asyncio.Redis, store: RedisJobStore
) -> None:
    """An older release gave keys a time of their own."""
    brief = with_policy(client, keep_completed_seconds=0)
    first = await add(brief, idempotency_key="k")
    await brief.complete(await take(brief), {})
    await client.delete(*[key async for key in client.scan_iter("{ff}:idem:*")])  # as if its time were over
    second = await add(store, idempotency_key="k")
    assert second != first
    assert await store.forget_due() == 1
    assert await store.get(first) is None
    found, created = await store.register(job(idempotency_key="k"))
    assert (found.id, created) == (second, False)


async def test_an_ended_job_without_a_record_keeps_no_other_from_being_forgotten(
    client: redis.asyncio.Redis, store: RedisJobStore
) -> None:
    brief = with_policy(client, keep_completed_seconds=0)
    lost, kept = await add(brief), await add(brief)
    for _ in range(2):
        await brief.complete(await take(brief), {})
    await client.delete(f"{{ff}}:job:{lost}")
    await store.forget_due()
    assert await store.get(kept) is None
    assert await client.zcard("{ff}:finished") == 0


async def test_every_key_lives_in_one_slot(store: RedisJobStore, client: redis.asyncio.Redis) -> None:
    await add(store, "owner}with{braces", idempotency_key="{k}")
    lease = await take(store)
    await store.begin_upload(lease, "u", "k")
    await store.renew("w1", [lease])
    keys = [key async for key in client.scan_iter()]
    assert len(keys) > 8
    assert [key for key in keys if not key.startswith("{ff}:")] == []
