"""The system's jobs are done for somebody: those for one user do not hold up those for another."""

import uuid

import pytest
import redis.asyncio

from services.common.caller import SYSTEM_USER
from services.ffmpeg.job import NewJob
from services.ffmpeg.job_policy import JobPolicy
from services.ffmpeg.job_state import JobKind, Priority
from services.ffmpeg.redis_job_store import RedisJobStore

HEAR = JobKind.TRANSCRIBE


@pytest.fixture
def store(client: redis.asyncio.Redis) -> RedisJobStore:
    return RedisJobStore(client, JobPolicy())


async def add(store: RedisJobStore, share: str | None, kind: JobKind = HEAR) -> None:
    spec = {"for": "the system" if share is None else share}
    await store.register(NewJob(str(uuid.uuid4()), kind, SYSTEM_USER, spec, Priority.NORMAL, share=share))


async def claimed(store: RedisJobStore, count: int, kind: JobKind = HEAR) -> list[str]:
    """Whom the next jobs are for, none of which ends."""
    leases = [await store.claim("w1", uuid.uuid4().hex, [kind]) for _ in range(count)]
    return [str(lease.job.spec["for"]) for lease in leases if lease is not None]


async def test_a_flood_for_one_delays_another_by_one_job(store: RedisJobStore) -> None:
    for _ in range(200):
        await add(store, "anna")
    assert await claimed(store, 5) == ["anna"] * 5
    await add(store, "bob")
    assert "bob" in await claimed(store, 2)


async def test_two_floods_take_turns_and_so_does_nobody(store: RedisJobStore) -> None:
    for share in ("anna", "bob", ""):
        for _ in range(5):
            await add(store, share)
    order = await claimed(store, 15)
    assert [set(order[at : at + 3]) for at in range(0, 15, 3)] == [{"anna", "bob", ""}] * 5


async def test_who_keeps_one_job_waiting_does_not_stop_the_other(store: RedisJobStore) -> None:
    for _ in range(10):
        await add(store, "anna")
    order = list[str]()
    for _ in range(12):
        await add(store, "bob")
        order += await claimed(store, 1)
    assert order.count("anna") > 3


async def test_what_was_done_counts_no_more(client: redis.asyncio.Redis, store: RedisJobStore) -> None:
    for _ in range(50):
        await add(store, "anna")
    await claimed(store, 50)
    assert [key async for key in client.scan_iter(match="*:turns:*")] == []
    await add(store, "anna")
    await add(store, "bob")
    assert await claimed(store, 2) == ["anna", "bob"]


async def test_kinds_know_nothing_of_each_other_s_turns(store: RedisJobStore) -> None:
    for _ in range(50):
        await add(store, "anna")
    await add(store, "anna", JobKind.PROBE)
    await add(store, "bob", JobKind.PROBE)
    assert await claimed(store, 2, JobKind.PROBE) == ["anna", "bob"]


async def test_a_job_that_names_nobody_is_done_beside_those_that_do(store: RedisJobStore) -> None:
    """As a process of the release before registers them."""
    await add(store, "anna")
    await add(store, None)
    await add(store, "bob")
    assert set(await claimed(store, 3)) == {"anna", "the system", "bob"}
