"""A job belongs to one attempt at a time: what a claim gives, a lease keeps, and whoever lost it is told."""

import asyncio
import uuid

import pytest
import redis.asyncio
from redis.exceptions import ResponseError

from services.ffmpeg.job import Progress
from services.ffmpeg.job_state import TRANSITIONS, JobKind, JobState, Priority
from services.ffmpeg.redis_job_store import Cancelled, Holding, RedisJobStore
from tests.contract.job_store.rig import (
    FAULT,
    POLICY,
    add,
    expire_lease,
    get,
    job,
    nothing_to_claim,
    redis_ms,
    state,
    take,
    with_policy,
)
from tests.support.waiting import until


async def test_a_job_goes_from_pending_through_running_to_completed(store: RedisJobStore) -> None:
    new = job(spec={"command": ["-i", "ü"]}, priority=Priority.BULK)
    registered, created = await store.register(new)
    assert created
    assert (registered.state, registered.spec, registered.priority) == ("pending", new.spec, Priority.BULK)
    lease = await take(store)
    assert (lease.job.id, lease.job.state, lease.job.attempt) == (new.id, "running", 1)
    assert await store.report(lease, Progress(0.5, 25, 2, 3)) is Holding.HELD
    running = await get(store, new.id)
    assert running.progress == Progress(0.5, 25, 2, 3)
    assert await store.complete(lease, {"outputs": {"out_1": 7}}) is Holding.HELD
    done = await get(store, new.id)
    assert (done.state, done.result) == (JobState.COMPLETED, {"outputs": {"out_1": 7}})
    assert done.created_ms <= done.started_ms <= done.finished_ms  # type: ignore[operator]
    assert await nothing_to_claim(store)


async def test_a_job_is_claimed_once_however_many_ask(store: RedisJobStore) -> None:
    ids = {await add(store) for _ in range(5)}
    claims = await asyncio.gather(
        *(store.claim(f"w{i}", uuid.uuid4().hex, [JobKind.COMMAND]) for i in range(20)),
    )
    claimed = [lease.job.id for lease in claims if lease]
    assert sorted(claimed) == sorted(ids)


async def test_a_claim_repeated_after_a_lost_answer_gives_the_same_job(store: RedisJobStore) -> None:
    await add(store)
    await add(store)
    first = await store.claim("w1", "nonce", [JobKind.COMMAND])
    again = await store.claim("w1", "nonce", [JobKind.COMMAND])
    assert first is not None
    assert again is not None
    assert (first.job.id, first.token, again.job.attempt) == (again.job.id, again.token, 1)
    assert (await take(store)).job.id != first.job.id


async def test_a_repeated_claim_gives_the_whole_lease_that_its_worker_counts_on(
    client: redis.asyncio.Redis, store: RedisJobStore
) -> None:
    job_id = await add(store)
    await store.claim("w1", "nonce", [JobKind.COMMAND])
    # Redis was away for a lease's time, and with it the answer.
    await expire_lease(client, job_id)
    assert await store.claim("w1", "nonce", [JobKind.COMMAND])
    assert await store.reap() == {}


async def test_an_attempt_that_redis_forgot_is_refused(client: redis.asyncio.Redis, store: RedisJobStore) -> None:
    job_id = await add(store)
    before = {key: await client.dump(key) async for key in client.scan_iter()}
    forgotten = await take(store, "w1")
    # A replica without the last writes takes over, or the machine died before its disk had them.
    await client.flushall()
    for key, value in before.items():
        await client.restore(key, 0, value or b"")
    lease = await take(store, "w2")
    assert (lease.job.id, lease.job.attempt) == (job_id, 1)
    assert await store.renew("w1", [forgotten]) == [Holding.LOST]
    assert await store.complete(forgotten, {}) is Holding.LOST
    assert await store.complete(lease, {}) is Holding.HELD


async def test_a_lease_that_ran_out_moves_the_job_and_refuses_the_old_attempt(
    store: RedisJobStore, client: redis.asyncio.Redis
) -> None:
    job_id = await add(store)
    stale = await take(store, "w1")
    assert await store.reap() == {}
    await expire_lease(client, job_id)
    assert await store.reap() == {job_id: "requeued"}
    fresh = await take(store, "w2")
    assert (fresh.job.id, fresh.job.attempt, fresh.job.tries, fresh.job.lost_workers) == (job_id, 2, 0, 1)
    assert fresh.token > stale.token
    assert await store.renew("w1", [stale]) == [Holding.LOST]
    assert await store.report(stale, Progress(0.9)) is Holding.LOST
    assert await store.begin_upload(stale, "u", "k") is Holding.LOST
    assert await store.complete(stale, {"stale": True}) is Holding.LOST
    assert await store.fail(stale, FAULT) == "lost"
    assert await store.release(stale) is Holding.LOST
    assert await store.complete(fresh, {"fresh": True}) is Holding.HELD
    assert await store.complete(stale, {"stale": True}) is Holding.LOST
    done = await get(store, job_id)
    assert done.result == {"fresh": True}


async def test_renewing_gives_a_whole_lease_again(client: redis.asyncio.Redis, store: RedisJobStore) -> None:
    job_id = await add(store)
    lease = await take(store)
    await expire_lease(client, job_id)
    before = await redis_ms(client)
    assert await store.renew("w1", [lease]) == [Holding.HELD]
    assert (await client.zscore("{ff}:active", job_id) or 0) >= before + POLICY.lease_seconds * 1000
    assert await store.reap() == {}


async def test_completing_twice_answers_the_same(store: RedisJobStore) -> None:
    await add(store)
    lease = await take(store)
    assert await store.complete(lease, {"n": 1}) is Holding.HELD
    assert await store.complete(lease, {"n": 1}) is Holding.HELD


async def test_a_drained_job_goes_back_first_and_uncounted(store: RedisJobStore) -> None:
    first = await add(store)
    await add(store)
    assert await store.release(await take(store)) is Holding.HELD
    again = await take(store)
    assert (again.job.id, again.job.tries, again.job.lost_workers) == (first, 0, 0)


async def test_uploads_of_attempts_that_did_not_commit_are_remembered(
    store: RedisJobStore, client: redis.asyncio.Redis
) -> None:
    job_id = await add(store)
    lease = await take(store)
    assert await store.begin_upload(lease, "u1", "ffmpeg-outputs/x") is Holding.HELD
    await expire_lease(client, job_id)
    await store.reap()
    lease = await take(store)
    assert await store.uploads(job_id) == {"u1": "ffmpeg-outputs/x"}
    await store.fail(lease, FAULT)
    assert [found async for found in store.debris()] == [job_id]
    await store.debris_removed(job_id)
    assert [found async for found in store.debris()] == []
    assert await store.uploads(job_id) == {}


async def test_every_attempt_has_a_token_above_all_others_whatever_the_clock_says(
    client: redis.asyncio.Redis, store: RedisJobStore
) -> None:
    """By it alone an attempt is told from the next; Redis' clock may be set back."""
    for _ in range(5):
        await add(store)
    tokens = [(await take(store, f"w{number}")).token for number in range(3)]
    await client.set("{ff}:token", ahead := tokens[-1] + 10**12)
    tokens += [(await take(store, f"w{number}")).token for number in range(3, 5)]
    assert tokens == sorted(set(tokens))
    assert tokens[3:] == [ahead + 1, ahead + 2]


async def test_a_worker_that_gives_no_sign_is_counted_no_more(client: redis.asyncio.Redis) -> None:
    """Also while nobody reaps: what scales the workers asks for them."""
    store = with_policy(client, lease_seconds=0.2)
    await store.renew("w1", [])
    await with_policy(client, lease_seconds=60).renew("w2", [])

    async def one_is_left() -> bool:
        return (await store.stats()).workers == 1

    await until(one_is_left)
    await store.leave("w2")
    assert (await store.stats()).workers == 0


async def test_workers_that_have_gone_leave_nothing(store: RedisJobStore, client: redis.asyncio.Redis) -> None:
    """Each start of one has a name of its own: what stayed would fill Redis."""
    for name in ("stopped", "died"):
        await add(store)
        await take(store, name)
        await store.renew(name, [])
    await store.leave("stopped")
    assert [key async for key in client.scan_iter("{ff}:worker:*")] == ["{ff}:worker:died"]
    assert 0 < await client.pttl("{ff}:worker:died") <= 2 * POLICY.lease_seconds * 1000
    await client.zadd("{ff}:workers", {"died": 1})
    await store.reap()
    assert await client.exists("{ff}:workers") == 0


async def test_a_lease_without_a_record_keeps_no_other_from_being_reaped(
    store: RedisJobStore, client: redis.asyncio.Redis
) -> None:
    lost, found = await add(store), await add(store)
    for job_id in (lost, found):
        await take(store)
        await expire_lease(client, job_id)
    await client.delete(f"{{ff}}:job:{lost}")
    assert await store.reap() == {found: "requeued"}
    assert await client.exists("{ff}:active") == 0


async def test_the_scripts_refuse_what_the_table_forbids(
    client: redis.asyncio.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is the Python table that they work by."""
    monkeypatch.setattr("services.ffmpeg.redis_job_store.TRANSITIONS", {found: frozenset() for found in JobState})
    store = with_policy(client)
    job_id = await add(store)
    with pytest.raises(ResponseError, match="illegal transition from pending to running"):
        await take(store)
    assert await state(store, job_id) is JobState.PENDING


async def test_a_job_that_has_ended_stays_as_it_ended(store: RedisJobStore, client: redis.asyncio.Redis) -> None:
    job_id = await add(store)
    lease = await take(store)
    for terminal in (found for found in JobState if not TRANSITIONS[found]):
        await client.hset(f"{{ff}}:job:{job_id}", "state", terminal)
        assert await store.release(lease) is Holding.LOST
        assert await store.cancel(job_id) is Cancelled.FINISHED
        assert await state(store, job_id) is terminal
