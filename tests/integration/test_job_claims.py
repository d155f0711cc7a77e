"""A worker and its claims, on a real Redis: an answer that something overtakes, or is lost; a lease that is."""

import asyncio
import errno
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import redis.asyncio
from prometheus_client import REGISTRY

from services.common.error_catalog import ErrorReason
from services.common.errors import ReelwayError
from services.common.redis_client import connect
from services.common.settings import RedisSettings
from services.common.tasks import end
from services.ffmpeg.job import JobLease, NewJob
from services.ffmpeg.job_policy import JobPolicy
from services.ffmpeg.job_state import JobKind, JobState
from services.ffmpeg.redis_job_store import CANCEL, Holding, RedisJobStore
from services.ffmpeg.work_folder import WorkRoot
from services.ffmpeg.worker.handler import Handler, JobContext
from services.ffmpeg.worker.worker import Worker, WorkerTimes
from tests.support.waiting import until

SELDOM = WorkerTimes(renew=20, drain=5)


@pytest.fixture
async def client(clean_redis: str) -> AsyncIterator[redis.asyncio.Redis]:
    async with connect(RedisSettings(redis_url=clean_redis)) as found:
        yield found


async def forever(context: JobContext) -> dict[str, Any]:
    await asyncio.Event().wait()
    return {}


@asynccontextmanager
async def working(
    store: RedisJobStore, folder: Path, handler: Handler = forever, times: WorkerTimes = SELDOM
) -> AsyncIterator["asyncio.Task[None]"]:
    """A worker with two slots."""

    async def fence(context: JobContext) -> None: ...

    slots = dict.fromkeys(JobKind, 2)
    worker = Worker(store, {JobKind.COMMAND: handler}, slots, WorkRoot(folder), fence=fence, times=times)
    running = asyncio.create_task(worker.run())
    try:
        yield running
    finally:
        await end(running)


async def add(store: RedisJobStore, kind: JobKind = JobKind.COMMAND) -> str:
    return (await store.register(NewJob(str(uuid.uuid4()), kind, "anna", {})))[0].id


async def is_in(store: RedisJobStore, job_id: str, state: JobState) -> bool:
    job = await store.get(job_id)
    return job is not None and job.state is state


class CancelledAtOnce(RedisJobStore):
    """Each job is cancelled, and its worker told so, before the worker has the answer to its claim."""

    def __init__(self, client: redis.asyncio.Redis) -> None:
        super().__init__(client, JobPolicy())
        self._listening, self._told = asyncio.Event(), asyncio.Event()

    async def claim(self, *asked: Any) -> JobLease | None:
        await self._listening.wait()
        lease = await super().claim(*asked)
        if lease is not None:
            await self.cancel(lease.job.id)
            await self._told.wait()
        return lease

    async def listen(self, *channels: str) -> AsyncIterator[tuple[str, str]]:
        async for channel, message in super().listen(*channels):
            self._listening.set()
            yield channel, message
            if channel == CANCEL:
                self._told.set()


async def test_a_cancel_that_crosses_its_jobs_start_is_obeyed_at_once(
    client: redis.asyncio.Redis, tmp_path: Path
) -> None:
    store = CancelledAtOnce(client)
    async with working(store, tmp_path):
        job_id = await add(store)

        # Long before the next renewal.
        await until(lambda: is_in(store, job_id, JobState.CANCELLED), 8)


class AnswerLost(RedisJobStore):
    """Redis gives out this job, and is away before the answer is there."""

    def __init__(self, client: redis.asyncio.Redis) -> None:
        super().__init__(client, JobPolicy())
        self.job_id, self.lost = "", asyncio.Event()

    async def claim(self, *asked: Any) -> JobLease | None:
        lease = await super().claim(*asked)
        if lease is not None and lease.job.id == self.job_id and not self.lost.is_set():
            self.lost.set()
            raise ReelwayError(ErrorReason.STORE_UNAVAILABLE)
        return lease


async def test_a_draining_worker_gives_back_a_claim_whose_answer_was_lost(
    client: redis.asyncio.Redis, tmp_path: Path
) -> None:
    store = AnswerLost(client)
    store.job_id = await add(store)
    async with working(store, tmp_path) as worker:
        await store.lost.wait()
        await end(worker)
    assert await is_in(store, store.job_id, JobState.PENDING)


async def test_a_resting_worker_runs_a_claim_whose_answer_was_lost(client: redis.asyncio.Redis, tmp_path: Path) -> None:
    store = AnswerLost(client)

    async def handler(context: JobContext) -> dict[str, Any]:
        if context.job.id != store.job_id:
            await store.lost.wait()
            raise OSError(errno.ENOSPC, "as scripted")
        return {}

    await add(store)
    store.job_id = await add(store)
    async with working(store, tmp_path, handler):
        await until(lambda: is_in(store, store.job_id, JobState.COMPLETED), 20)


class Away(RedisJobStore):
    """Redis is away for those who renew, and full for whoever gives a job back for the first time."""

    def __init__(self, client: redis.asyncio.Redis) -> None:
        super().__init__(client, JobPolicy(lease_seconds=2))
        self.away, self.is_full, self.renewed = False, True, asyncio.Event()

    async def renew(self, *asked: Any) -> list[Holding]:
        if self.away:
            raise ReelwayError(ErrorReason.STORE_UNAVAILABLE)
        answers = await super().renew(*asked)
        self.renewed.set()
        return answers

    async def release(self, lease: JobLease) -> Holding:
        if self.is_full:
            self.is_full = False
            raise ReelwayError(ErrorReason.STORE_UNAVAILABLE)
        return await super().release(lease)


@pytest.mark.parametrize("back_before_it_ended", [False, True])
async def test_a_worker_that_lives_is_not_lost_however_long_redis_is_away(
    client: redis.asyncio.Redis, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, back_before_it_ended: bool
) -> None:
    monkeypatch.setattr("services.ffmpeg.worker.worker._POLL_SECONDS", 0.1)
    store, folders = Away(client), list[Path]()

    async def handler(context: JobContext) -> dict[str, Any]:
        if context.job.attempt > 1:
            return {}
        # Renewals alone fail: a worker that looked for leases that ran out would find this one.
        store.away = True
        folders.append(context.folder.path)
        try:
            return await forever(context)
        finally:
            if back_before_it_ended:
                store.away = False
                store.renewed.clear()
                await store.renewed.wait()

    job_id = await add(store)
    async with working(store, tmp_path, handler, WorkerTimes(lease=2, renew=0.1, stalled_check=60, drain=5)):
        await until(lambda: bool(folders) and not folders[0].exists())
        store.away = False
        await until(lambda: is_in(store, job_id, JobState.COMPLETED), 20)
    job = await store.get(job_id)
    assert job is not None
    assert (job.attempt, job.lost_workers) == (2, 0)


def ended(outcome: str, kind: JobKind) -> float | None:
    return REGISTRY.get_sample_value("reelway_jobs_ended_total", {"kind": kind.value, "outcome": outcome})


@pytest.mark.parametrize("kind", [JobKind.COMMAND, JobKind.TRANSCRIBE], ids=["its-own", "of-other-workers"])
async def test_an_attempt_whose_worker_died_is_counted_by_who_finds_its_job(
    client: redis.asyncio.Redis, tmp_path: Path, kind: JobKind
) -> None:
    store = RedisJobStore(client, JobPolicy())
    job_id = await add(store, kind)
    short = RedisJobStore(client, JobPolicy(lease_seconds=0.05))
    assert await short.claim("the dead one", uuid.uuid4().hex, [kind]) is not None
    async with working(store, tmp_path, times=WorkerTimes(stalled_check=0.1, drain=0, renew=0.1)):
        before = ended("died", kind)
        # A series that begins with its first failure hides that from every rate.
        assert before is not None
        assert ended("failed", JobKind.COMMAND) is not None
        await until(lambda: ended("died", kind) == before + 1)
    job = await store.get(job_id)
    assert job is not None
    assert job.lost_workers == 1
