"""What the job store promises, on a real Redis: one test a promise."""

import asyncio
import contextlib
import dataclasses
import itertools
import uuid
from collections import Counter
from collections.abc import AsyncIterator
from typing import Any

import pytest
import redis.asyncio

from services.common import tasks
from services.common.caller import SYSTEM_USER
from services.common.error_catalog import ErrorReason
from services.common.errors import ReelwayError
from services.common.redis_client import connect
from services.common.settings import RedisSettings
from services.ffmpeg.job import Job, JobFailure, JobLease, NewJob, Progress
from services.ffmpeg.job_policy import JobPolicy
from services.ffmpeg.job_state import TRANSITIONS, JobKind, JobState, Priority
from services.ffmpeg.redis_job_store import Cancelled, Holding, RedisJobStore
from tests.support.chaos_proxy import chaos_proxy
from tests.support.waiting import until

POLICY = JobPolicy(lease_seconds=30, tries_max=3, backoff_seconds=0.05, lost_workers_max=4)
FAULT = JobFailure("INPUT_UNAVAILABLE", "in_1 could not be fetched")


@pytest.fixture
def store(client: redis.asyncio.Redis) -> RedisJobStore:
    return RedisJobStore(client, POLICY)


def with_policy(client: redis.asyncio.Redis, **changes: Any) -> RedisJobStore:
    return RedisJobStore(client, dataclasses.replace(POLICY, **changes))


def job(owner: str = "anna", **fields: Any) -> NewJob:
    given: dict[str, Any] = {"kind": JobKind.COMMAND, "spec": {"n": 1}} | fields
    return NewJob(id=str(uuid.uuid4()), owner=owner, **given)


async def add(store: RedisJobStore, owner: str = "anna", **fields: Any) -> str:
    return (await store.register(job(owner, **fields)))[0].id


async def take(store: RedisJobStore, worker: str = "w1", kinds: tuple[JobKind, ...] = (JobKind.COMMAND,)) -> JobLease:
    lease = await store.claim(worker, uuid.uuid4().hex, kinds)
    assert lease is not None, "nothing to claim"
    return lease


async def nothing_to_claim(store: RedisJobStore) -> bool:
    return await store.claim("w1", uuid.uuid4().hex, list(JobKind)) is None


async def get(store: RedisJobStore, job_id: str) -> Job:
    found = await store.get(job_id)
    assert found is not None
    return found


async def state(store: RedisJobStore, job_id: str) -> JobState:
    return (await get(store, job_id)).state


async def expire_lease(client: redis.asyncio.Redis, job_id: str) -> None:
    await client.zadd("{ff}:active", {job_id: 1})


async def redis_ms(client: redis.asyncio.Redis) -> int:
    seconds, microseconds = await client.time()
    return int(seconds) * 1000 + int(microseconds) // 1000


async def begin_outage(client: redis.asyncio.Redis, job_id: str, seconds_ago: float) -> None:
    await client.hset(f"{{ff}}:job:{job_id}", "outage", str(await redis_ms(client) - int(seconds_ago * 1000)))


async def make_due(client: redis.asyncio.Redis) -> None:
    """Every retry that waits."""
    for member in await client.zrange("{ff}:delayed", 0, -1):
        await client.zadd("{ff}:delayed", {str(member): 1})


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


async def test_a_job_is_claimed_once_however_many_ask(store: RedisJobStore) -> None:
    ids = {await add(store) for _ in range(5)}
    claims = await asyncio.gather(
        *(store.claim(f"w{i}", uuid.uuid4().hex, [JobKind.COMMAND]) for i in range(20)),
    )
    claimed = [lease.job.id for lease in claims if lease]
    assert sorted(claimed) == sorted(ids)


async def test_a_flood_of_calls_waits_for_its_turn(clean_redis: str) -> None:
    async with connect(RedisSettings(redis_url=clean_redis)) as client:
        store = RedisJobStore(client, POLICY)
        jobs = await asyncio.gather(*(store.register(job()) for _ in range(1000)))
    assert sum(created for _, created in jobs) == 1000


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
    assert await store.fail(stale, FAULT, again=False) == "lost"
    assert await store.release(stale) is Holding.LOST
    assert await store.complete(fresh, {"fresh": True}) is Holding.HELD
    assert await store.complete(stale, {"stale": True}) is Holding.LOST
    done = await get(store, job_id)
    assert done.result == {"fresh": True}


async def test_renewing_keeps_the_lease(client: redis.asyncio.Redis) -> None:
    store = with_policy(client, lease_seconds=1)
    await add(store)
    lease = await take(store)
    # Longer in all than one lease; each pause far shorter, for a machine with much to do makes it longer.
    for _ in range(6):
        await asyncio.sleep(0.2)
        assert await store.renew("w1", [lease]) == [Holding.HELD]
        assert await store.reap() == {}


async def test_completing_twice_answers_the_same(store: RedisJobStore) -> None:
    await add(store)
    lease = await take(store)
    assert await store.complete(lease, {"n": 1}) is Holding.HELD
    assert await store.complete(lease, {"n": 1}) is Holding.HELD


async def test_a_passing_fault_is_tried_three_times_with_doubling_pauses(store: RedisJobStore) -> None:
    job_id = await add(store)
    pauses = []
    for wanted in ("retry", "retry", "failed"):
        leases: list[JobLease] = []

        async def claimed(into: list[JobLease] = leases) -> bool:
            if lease := await store.claim("w1", uuid.uuid4().hex, [JobKind.COMMAND]):
                into.append(lease)
            return bool(into)

        await until(claimed)
        assert await store.fail(leases[0], FAULT, again=True) == wanted
        found = await get(store, job_id)
        if found.due_ms:
            pauses.append(found.due_ms)
            assert await nothing_to_claim(store)
    assert len(pauses) == 2
    found = await get(store, job_id)
    assert (found.state, found.failure, found.attempt, found.tries) == (JobState.FAILED, FAULT, 3, 3)
    assert await nothing_to_claim(store)


async def test_a_retry_that_is_due_waits_for_nobody_s_claim(store: RedisJobStore, client: redis.asyncio.Redis) -> None:
    """Workers that have nothing to do hear of it."""
    await add(store)
    await store.fail(await take(store), FAULT, again=True)
    await make_due(client)
    await store.reap()
    stats = await store.stats()
    assert (stats.delayed, stats.kinds[JobKind.COMMAND].ready) == (0, 1)


async def test_an_outage_is_no_try_and_its_pauses_are_as_long_as_it_has_lasted(
    client: redis.asyncio.Redis, store: RedisJobStore
) -> None:
    job_id = await add(store)
    pauses = []
    for lasted in (0, 2, 60, 7200, POLICY.outage_seconds - 60):
        lease = await take(store)
        if lasted:
            await begin_outage(client, job_id, lasted)
        before = await redis_ms(client)
        assert await store.fail(lease, FAULT, again=True, outage=True) == "outage"
        found = await get(store, job_id)
        assert found.due_ms is not None
        pauses.append((found.due_ms - before) / 1000)
        assert await nothing_to_claim(store)
        await make_due(client)
    assert pauses == pytest.approx([POLICY.backoff_seconds, 2, 60, 300, 300], abs=1)
    found = await get(store, job_id)
    assert (found.state, found.tries, found.failure) == (JobState.PENDING, 0, None)
    # What is the job's own fault has its tries still.
    for wanted in ("retry", "retry", "failed"):
        assert await store.fail(await take(store), FAULT, again=True) == wanted
        await make_due(client)


async def test_an_outage_without_an_end_ends_the_job(client: redis.asyncio.Redis, store: RedisJobStore) -> None:
    job_id = await add(store)
    assert await store.fail(await take(store), FAULT, again=True, outage=True) == "outage"
    await begin_outage(client, job_id, POLICY.outage_seconds + 1)
    for wanted in ("retry", "retry", "failed"):
        await make_due(client)
        assert await store.fail(await take(store), FAULT, again=True, outage=True) == wanted
    found = await get(store, job_id)
    assert (found.state, found.failure, found.tries) == (JobState.FAILED, FAULT, 3)


async def test_an_outage_ends_after_a_clock_that_was_set_back(
    client: redis.asyncio.Redis, store: RedisJobStore
) -> None:
    job_id = await add(store)
    await begin_outage(client, job_id, -1e6)
    assert await store.fail(await take(store), FAULT, again=True, outage=True) == "outage"
    assert int(await client.hget(f"{{ff}}:job:{job_id}", "outage") or 0) <= await redis_ms(client)


async def test_a_lasting_fault_fails_at_once(store: RedisJobStore) -> None:
    job_id = await add(store)
    assert await store.fail(await take(store), FAULT, again=False) == "failed"
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
    assert await store.fail(lease, FAULT, again=True) == "cancelled"
    assert await store._call("cancel", job_id, "nonce", 60_000) == Cancelled.CANCELLED
    assert await store.cancel(job_id) is Cancelled.FINISHED


async def test_a_job_waiting_for_its_retry_is_cancelled_at_once(store: RedisJobStore) -> None:
    job_id = await add(store)
    await store.fail(await take(store), FAULT, again=True)
    assert await store.cancel(job_id) is Cancelled.CANCELLED
    await asyncio.sleep(0.1)
    assert await nothing_to_claim(store)


async def test_cancel_of_a_running_job_reaches_its_worker_in_every_answer(store: RedisJobStore) -> None:
    job_id = await add(store)
    lease = await take(store)
    assert await store.cancel(job_id) is Cancelled.CANCELLING
    assert await store.renew("w1", [lease]) == [Holding.CANCEL]
    assert await store.report(lease, Progress(0.1)) is Holding.CANCEL
    assert await store.begin_upload(lease, "u", "k") is Holding.CANCEL
    assert await store.complete(lease, {}) is Holding.CANCEL
    assert await store.fail(lease, FAULT, again=True) == "cancelled"
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


async def test_a_drained_job_goes_back_first_and_uncounted(store: RedisJobStore) -> None:
    first = await add(store)
    await add(store)
    assert await store.release(await take(store)) is Holding.HELD
    again = await take(store)
    assert (again.job.id, again.job.tries, again.job.lost_workers) == (first, 0, 0)


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
    await store.fail(await take(store), FAULT, again=True)
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


async def test_a_job_that_waits_for_its_next_try_holds_back_no_other(client: redis.asyncio.Redis) -> None:
    store = with_policy(client, running_max=1, backoff_seconds=60)
    await add(store)
    second = await add(store)
    first = await take(store)
    assert await nothing_to_claim(store)
    assert await store.fail(first, FAULT, again=True) == "retry"
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
            await store.fail(lease, FAULT, again=False)
        else:
            await store.complete(lease, {})
    assert await client.hgetall("{ff}:owner:anna") == {}
    stats = await store.stats()
    assert (stats.active, stats.delayed, stats.kinds[JobKind.COMMAND].unfinished) == (0, 0, 0)


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
    await store.fail(lease, FAULT, again=False)
    assert [found async for found in store.debris()] == [job_id]
    await store.debris_removed(job_id)
    assert [found async for found in store.debris()] == []
    assert await store.uploads(job_id) == {}


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
    await client.zincrby("{ff}:finished", -59_000, done)
    assert await store.forget_due() == 0
    await client.zincrby("{ff}:finished", -2_000, done)
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


async def test_a_job_whose_retry_began_is_due_no_more(store: RedisJobStore) -> None:
    job_id = await add(store)
    assert await store.fail(await take(store), FAULT, again=True) == "retry"
    assert (await get(store, job_id)).due_ms is not None

    async def is_taken() -> bool:
        return await store.claim("w1", uuid.uuid4().hex, [JobKind.COMMAND]) is not None

    await until(is_taken)
    assert (await get(store, job_id)).due_ms is None


@contextlib.asynccontextmanager
async def listening(store: RedisJobStore, *channels: str) -> AsyncIterator[list[tuple[str, str]]]:
    """What is heard, as it grows, from the moment when the subscription stands."""
    heard: list[tuple[str, str]] = []

    async def listen() -> None:
        async for event in store.listen(*channels):
            heard.append(event)  # noqa: PERF401 - seen while it grows

    listener = asyncio.create_task(listen())
    await until(lambda: heard == [("", "")])
    yield heard
    await tasks.end(listener)


async def test_waiters_hear_of_every_change(store: RedisJobStore) -> None:
    async with listening(store, "{ff}:changed", "{ff}:cancel", "{ff}:wake") as heard:
        job_id = await add(store)
        await store.report(await take(store), Progress(0.5))
        await store.cancel(job_id)
        await until(lambda: ("{ff}:cancel", job_id) in heard)
        assert ("{ff}:wake", "command") in heard
        assert heard.count(("{ff}:changed", job_id)) == 3


@pytest.fixture
async def of_a_process(clean_redis: str) -> AsyncIterator[RedisJobStore]:
    """A store whose client is one as processes have it, which subscribes anew by itself."""
    async with connect(RedisSettings(redis_url=clean_redis)) as client:
        yield RedisJobStore(client, JobPolicy())


async def test_waiters_are_told_that_they_may_have_missed_something(
    of_a_process: RedisJobStore, client: redis.asyncio.Redis
) -> None:
    """What was published before the client had subscribed anew has reached nobody."""
    async with listening(of_a_process, "{ff}:cancel", "{ff}:wake") as heard:
        assert await client.client_kill_filter(_type="pubsub") == 1
        await until(lambda: heard == [("", ""), ("", "")])


async def test_a_subscription_that_is_dead_without_a_word_is_made_anew(
    of_a_process: RedisJobStore, client: redis.asyncio.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As behind a NAT that has forgotten the connection, nothing comes, and nothing tells that nothing will."""
    monkeypatch.setattr("services.ffmpeg.redis_job_store._SILENT_SECONDS", 0.3)
    async with listening(of_a_process, "{ff}:cancel", "{ff}:wake") as heard:
        await client.client_pause(2000, all=True)
        await until(lambda: heard == [("", ""), ("", "")])


async def test_every_key_lives_in_one_slot(store: RedisJobStore, client: redis.asyncio.Redis) -> None:
    await add(store, "owner}with{braces", idempotency_key="{k}")
    lease = await take(store)
    await store.begin_upload(lease, "u", "k")
    await store.renew("w1", [lease])
    keys = [key async for key in client.scan_iter()]
    assert len(keys) > 8
    assert [key for key in keys if not key.startswith("{ff}:")] == []


async def test_the_scripts_refuse_what_the_table_forbids(store: RedisJobStore, client: redis.asyncio.Redis) -> None:
    """The script works by the Python table: a job in a state from which nothing leads cannot be started."""
    job_id = await add(store)
    lease = await take(store)
    for terminal in (found for found in JobState if not TRANSITIONS[found]):
        await client.hset(f"{{ff}}:job:{job_id}", "state", terminal)
        assert await store.release(lease) is Holding.LOST
        assert await store.cancel(job_id) is Cancelled.FINISHED
        assert await state(store, job_id) is terminal
