"""Whose job is next, and how many an owner may have waiting and running."""

from collections import Counter

import pytest
import redis.asyncio

from services.common.caller import SYSTEM_USER
from services.common.error_catalog import ErrorReason
from services.common.errors import ReelwayError
from services.ffmpeg.job_state import JobKind, Priority
from services.ffmpeg.redis_job_store import Cancelled, RedisJobStore
from tests.contract.job_store.rig import PASSING, add, make_due, nothing_to_claim, take, with_policy


async def test_classes_go_in_order_whatever_came_first(store: RedisJobStore) -> None:
    ids = {priority: await add(store, priority=priority) for priority in reversed(Priority)}
    assert [(await take(store)).job.id for _ in ids] == [ids[priority] for priority in Priority]


async def test_kinds_are_claimed_in_the_order_asked_for(store: RedisJobStore) -> None:
    ids = {kind: await add(store, kind=kind) for kind in (JobKind.TRANSCRIBE, JobKind.COMMAND, JobKind.PROBE)}
    kinds = (JobKind.PROBE, JobKind.COMMAND)
    assert (await take(store, kinds=kinds)).job.id == ids[JobKind.PROBE]
    assert (await take(store, kinds=kinds)).job.id == ids[JobKind.COMMAND]
    assert await store.claim("w1", "n", kinds) is None


async def test_a_flood_by_one_owner_delays_another_by_one_job(store: RedisJobStore) -> None:
    for _ in range(200):
        await add(store, "flood")
    for _ in range(5):
        await take(store)
    lone = await add(store, "lone")
    order = [(await take(store)).job.id for _ in range(2)]
    assert lone in order


async def test_what_an_owner_has_running_counts_for_its_next_turn(store: RedisJobStore) -> None:
    for _ in range(3):
        await add(store)
        await take(store)
    await add(store)
    other = await add(store, "other")
    assert (await take(store)).job.id == other


async def test_a_job_that_is_tried_again_turns_no_clock_back(store: RedisJobStore, client: redis.asyncio.Redis) -> None:
    """Whoever comes then would come before those who have waited for long."""
    mine = [await add(store) for _ in range(4)]
    await store.fail(await take(store), PASSING)
    for job_id in mine[1:3]:
        assert (await take(store)).job.id == job_id
    await make_due(client)
    assert (await take(store)).job.id == mine[0]
    await add(store, "other")
    assert (await take(store)).job.id == mine[3]


async def test_two_owners_who_keep_the_queue_full_share_evenly(store: RedisJobStore) -> None:
    for _ in range(50):
        await add(store, "a")
    served: Counter[str] = Counter()
    await add(store, "b")
    for _ in range(40):
        lease = await take(store)
        served[lease.job.owner] += 1
        await store.complete(lease, {})
        if lease.job.owner == "b":
            await add(store, "b")
    assert abs(served["a"] - served["b"]) <= 4


async def test_an_owner_has_no_more_waiting_than_its_quota(client: redis.asyncio.Redis) -> None:
    store = with_policy(client, queued_max=2)
    await add(store)
    await add(store)
    with pytest.raises(ReelwayError) as refused:
        await add(store)
    assert refused.value.reason is ErrorReason.TOO_MANY_REQUESTS
    await add(store, "somebody else")
    await take(store)
    await take(store)
    await add(store)
    # Many recordings at once must not keep an upload from being looked at.
    for _ in range(3):
        await add(store, SYSTEM_USER)


async def test_an_owner_has_no_more_running_than_its_quota(client: redis.asyncio.Redis) -> None:
    store = with_policy(client, running_max=2)
    mine = [await add(store) for _ in range(5)]
    leases = [await take(store), await take(store)]
    other = await add(store, "other")
    assert (await take(store)).job.id == other
    assert await nothing_to_claim(store)
    await store.complete(leases[0], {})
    leases.append(await take(store))
    assert await nothing_to_claim(store)
    # Cancelling those that were just let go must not strand the rest.
    await store.complete(leases[1], {})
    await store.complete(leases[2], {})
    assert await store.cancel(mine[3]) is Cancelled.CANCELLED
    assert (await take(store)).job.id == mine[4]


async def test_looking_for_a_job_behind_many_that_a_quota_holds_back_keeps_nobody_else_waiting(
    client: redis.asyncio.Redis,
) -> None:
    store = with_policy(client, running_max=1)
    for _ in range(202):
        await add(store)
    behind = await add(store, "other", priority=Priority.BULK)
    await take(store)
    await client.config_resetstat()
    assert (await take(store)).job.id == behind
    stats = await client.info("commandstats")
    assert stats["cmdstat_evalsha"]["calls"] == 3


async def test_a_job_that_waits_for_its_next_try_holds_back_no_other(client: redis.asyncio.Redis) -> None:
    store = with_policy(client, running_max=1, backoff_seconds=60)
    await add(store)
    second = await add(store)
    first = await take(store)
    assert await nothing_to_claim(store)
    assert await store.fail(first, PASSING) == "retry"
    assert (await take(store)).job.id == second


@pytest.mark.parametrize("quota", [0, 5])
async def test_a_running_quota_that_was_raised_lets_go_of_what_it_held_back(
    client: redis.asyncio.Redis, quota: int
) -> None:
    small, store = with_policy(client, running_max=1), with_policy(client, running_max=quota)
    mine = [await add(small) for _ in range(6)]
    first = await take(small)
    assert await nothing_to_claim(small)
    await store.complete(first, {})
    assert [(await take(store)).job.id for _ in range(5)] == mine[1:]


async def test_a_running_quota_does_not_hold_up_the_system_itself(client: redis.asyncio.Redis) -> None:
    store = with_policy(client, running_max=1)
    await add(store, SYSTEM_USER, kind=JobKind.TRANSCRIBE)
    await take(store, kinds=(JobKind.TRANSCRIBE,))
    probe = await add(store, SYSTEM_USER, kind=JobKind.PROBE)
    assert (await take(store, kinds=(JobKind.PROBE,))).job.id == probe
