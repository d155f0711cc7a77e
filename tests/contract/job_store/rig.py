"""What the tests of the job store do to it again and again."""

import dataclasses
import uuid
from typing import Any

import redis.asyncio

from services.common.task_failure import TaskFailure
from services.ffmpeg.job import Job, JobFault, JobLease, NewJob, Outage
from services.ffmpeg.job_policy import JobPolicy
from services.ffmpeg.job_state import JobKind, JobState
from services.ffmpeg.redis_job_store import RedisJobStore

POLICY = JobPolicy(lease_seconds=30, tries_max=3, backoff_seconds=60, lost_workers_max=4)
_WHY = (TaskFailure.INPUT_UNAVAILABLE, "in_1 could not be fetched")
FAULT, PASSING, OUTAGE = JobFault(*_WHY), JobFault(*_WHY, may_pass=True), Outage(*_WHY)


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


async def make_due(client: redis.asyncio.Redis) -> None:
    """Every retry that waits."""
    for member in await client.zrange("{ff}:delayed", 0, -1):
        await client.zadd("{ff}:delayed", {str(member): 1})
