"""Whatever happens in whatever order: the queue's books agree with its jobs, and nothing is stranded."""

import random
import uuid
from collections import Counter
from typing import Any

import pytest
import redis.asyncio

from services.ffmpeg.job import JobLease, Progress
from services.ffmpeg.job_policy import JobPolicy
from services.ffmpeg.job_state import JobKind, JobState, Priority
from services.ffmpeg.redis_job_store import RedisJobStore
from tests.contract.job_store.rig import FAULT, OUTAGE, PASSING, add, expire_lease, make_due

POLICY = JobPolicy(lease_seconds=30, tries_max=3, backoff_seconds=60, lost_workers_max=3, running_max=2)
KINDS = (JobKind.COMMAND, JobKind.PROBE)
OWNERS = ("a", "b", "")
STEPS = {
    **dict.fromkeys(("register", "claim"), 8),
    **dict.fromkeys(("complete", "again", "cancel"), 3),
    **dict.fromkeys(("expire", "renew", "report", "upload", "due"), 2),
    **dict.fromkeys(("fail", "outage", "release"), 1),
}
"""How often each thing happens, beside the others."""


@pytest.mark.parametrize("seed", range(8))
async def test_any_order_of_operations_keeps_the_books(client: redis.asyncio.Redis, seed: int) -> None:
    rng = random.Random(seed)
    store = RedisJobStore(client, POLICY)
    ids: list[str] = []
    leases: list[JobLease] = []
    for number in range(1, 151):
        await step(rng, store, client, ids, leases)
        if number % 10 == 0:
            await check_books(client, ids)
    await run_dry(store, client, ids)


async def step(rng: random.Random, store: RedisJobStore, client: Any, ids: list[str], leases: list[JobLease]) -> None:
    """One thing that could happen; leases that were lost stay in use, as a frozen worker's would."""
    what = rng.choices(list(STEPS), list(STEPS.values()))[0]
    if what == "register":
        kind, owner, priority = rng.choice(KINDS), rng.choice(OWNERS), rng.choice(list(Priority))
        ids.append(await add(store, owner, kind=kind, priority=priority))
    elif what == "claim":
        if lease := await store.claim(rng.choice("vw"), uuid.uuid4().hex, KINDS):
            leases.append(lease)
    elif what == "cancel" and ids:
        await store.cancel(rng.choice(ids))
    elif what == "expire":
        if running := await client.zrange("{ff}:active", 0, -1):
            await expire_lease(client, rng.choice(running))
        await store.reap()
    elif what == "due":
        await make_due(client)
    elif leases:
        lease = rng.choice(leases)
        match what:
            case "complete":
                await store.complete(lease, {})
            case "fail" | "again":
                await store.fail(lease, PASSING if what == "again" else FAULT)
            case "outage":
                await store.fail(lease, OUTAGE)
            case "release":
                await store.release(lease)
            case "renew":
                await store.renew("w", leases)
            case "report":
                await store.report(lease, Progress(0.5))
            case "upload":
                await store.begin_upload(lease, uuid.uuid4().hex, "ffmpeg-outputs/x")


async def check_books(client: Any, ids: list[str]) -> None:
    jobs = [await client.hgetall(f"{{ff}}:job:{job_id}") for job_id in ids]
    places: Counter[str] = Counter()
    for key in ("delayed", *(f"ready:{kind}" for kind in KINDS), *(f"parked:{owner}" for owner in OWNERS)):
        places.update(member.partition(":")[2] for member in await client.zrange(f"{{ff}}:{key}", 0, -1))
    by_state = {state: {job["id"] for job in jobs if job["state"] == state} for state in JobState}
    assert places == Counter(by_state[JobState.PENDING]), "a waiting job stands in exactly one line"
    assert set(await client.zrange("{ff}:active", 0, -1)) == by_state[JobState.RUNNING]
    unfinished = {job_id for kind in KINDS for job_id in await client.zrange(f"{{ff}}:unfinished:{kind}", 0, -1)}
    assert unfinished == by_state[JobState.PENDING] | by_state[JobState.RUNNING]
    delayed = {member.partition(":")[2] for member in await client.zrange("{ff}:delayed", 0, -1)}
    assert {job["id"] for job in jobs if "due" in job} == delayed
    assert {job["id"] for job in jobs if "progress" in job or "cancel" in job} <= by_state[JobState.RUNNING]
    finished = set(ids) - unfinished
    uploads = {key.rpartition(":")[2] async for key in client.scan_iter("{ff}:uploads:*")}
    assert uploads & finished == set(await client.zrange("{ff}:debris", 0, -1)), "who removes them knows of all"
    assert set(await client.zrange("{ff}:finished", 0, -1)) == finished
    for owner in OWNERS:
        mine = Counter(job["state"] for job in jobs if job["owner"] == owner)
        wanted = {"queued": mine["pending"], "running": mine["running"]}
        assert await client.hgetall(f"{{ff}}:owner:{owner}") == {k: str(v) for k, v in wanted.items() if v}
        assert mine["running"] <= POLICY.running_max
        ended = {job["id"] for job in jobs if job["owner"] == owner} & finished
        assert set(await client.zrange(f"{{ff}}:finished:{owner}", 0, -1)) == ended


async def run_dry(store: RedisJobStore, client: Any, ids: list[str]) -> None:
    """Workers that only succeed bring every job to an end."""
    for job_id in await client.zrange("{ff}:active", 0, -1):
        await expire_lease(client, job_id)
    await store.reap()
    await make_due(client)
    while lease := await store.claim("w", uuid.uuid4().hex, KINDS):
        await store.complete(lease, {})
    await check_books(client, ids)
    assert await client.hgetall("{ff}:owner:a") == {}
    assert sum(kind.unfinished for kind in (await store.stats()).kinds.values()) == 0
