"""Workers that die, freeze, drain and are told to stop: no job is lost, none is done twice in effect."""

import asyncio
import os
import signal
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import redis.asyncio

from deploy.local.embedded import EmbeddedRedis
from services.common.redis_client import connect
from services.common.s3_objects import S3Objects
from services.common.settings import RedisSettings
from services.ffmpeg.job_policy import JobPolicy
from services.ffmpeg.job_state import JobKind
from services.ffmpeg.redis_job_store import Cancelled, RedisJobStore
from tests.faults.jobs_rig import SHORT_LEASE, Workers, add, children, exit_code, get, until_state
from tests.support.servers import S3Server
from tests.support.waiting import until, until_ended


def encoding(seconds: float) -> dict[str, Any]:
    """A command whose video is so long; it takes a third of that, however many processors there are."""
    command = f"-f lavfi -i testsrc=s=1280x720:d={seconds} -c:v libx264 -preset veryfast -threads 1 out_1"
    return {"command": command, "input_files": {}, "output_files": {"out_1": "encoded.mkv"}}


@pytest.fixture
async def store(clean_redis: str) -> AsyncIterator[RedisJobStore]:
    async with redis.asyncio.Redis.from_url(clean_redis, decode_responses=True) as client:
        yield RedisJobStore(client, JobPolicy(lease_seconds=2))


@pytest.fixture
async def workers(clean_redis: str, juicefs_s3: S3Server, tmp_path: Path) -> AsyncIterator[Workers]:
    rig = Workers(clean_redis, juicefs_s3, tmp_path)
    yield rig
    await rig.end()


@pytest.fixture
async def objects(juicefs_s3: S3Server) -> AsyncIterator[S3Objects]:
    async with S3Objects.open(juicefs_s3.settings) as found:
        yield found


async def test_a_killed_workers_job_runs_again_elsewhere_and_leaves_neither_child_nor_folder(
    store: RedisJobStore, workers: Workers, objects: S3Objects, tmp_path: Path
) -> None:
    record = tmp_path / "record"
    mortal = await workers.start(**SHORT_LEASE)
    job_id = await add(store, seconds=60, again=0, record=str(record), outputs=["a.mp4"])
    (child,) = await children(record)
    (folder,) = workers.work_folder.iterdir()
    # Its lease is long: it shall not lose the job, however little time the machine has for it.
    await workers.start()
    # What a worker does at its start is not what removes the folder.
    await until(lambda: workers.log.count("worker started") == 2, 40)
    mortal.signal(signal.SIGKILL)
    await until_ended(child)
    await until(lambda: not folder.exists(), 40)
    job = await until_state(store, job_id, "completed")
    assert (job.attempt, job.lost_workers, job.tries) == (2, 1, 0)
    found = await objects.get(f"ffmpeg-outputs/{job_id}/a.mp4")
    assert found == job_id.encode() * 1000


async def test_a_frozen_worker_that_wakes_kills_its_child_and_is_refused(
    store: RedisJobStore, workers: Workers, tmp_path: Path
) -> None:
    record = tmp_path / "record"
    frozen = await workers.start(**SHORT_LEASE)
    job_id = await add(store, seconds=60, again=1, record=str(record))
    (child,) = await children(record)
    frozen.signal(signal.SIGSTOP)
    await workers.start()
    await children(record, 2)
    frozen.signal(signal.SIGCONT)
    await until_ended(child)
    job = await until_state(store, job_id, "completed")
    assert (job.attempt, job.result["attempt"]) == (2, 2)
    assert "outcome=lost" in workers.log, workers.log


async def test_a_worker_whose_bucket_is_missing_is_not_ready(workers: Workers) -> None:
    await workers.start(S3_BUCKET="not-there")
    await until(lambda: "not ready" in workers.log)


async def test_a_worker_hears_of_a_cancel_and_kills_the_job_s_child(
    store: RedisJobStore, workers: Workers, tmp_path: Path
) -> None:
    # Neither the next renewal nor the progress, which is written by then, tells it while the test waits.
    await workers.start(JOB_RENEW_SECONDS="100", JOB_LEASE_SECONDS="300")
    record = tmp_path / "record"
    job_id = await add(store, seconds=600, record=str(record))
    (child,) = await children(record)
    await until_half_done(store, job_id)
    assert await store.cancel(job_id) is Cancelled.CANCELLING
    await until_ended(child)
    await until_state(store, job_id, "cancelled")


async def until_half_done(store: RedisJobStore, job_id: str) -> None:
    """Its worker has written the progress that a job with a child shows."""

    async def is_half_done() -> bool:
        return (await get(store, job_id)).progress.fraction == 0.5

    await until(is_half_done, 40)


async def test_a_drain_lets_a_short_job_finish_and_takes_nothing_new(
    store: RedisJobStore, workers: Workers, tmp_path: Path
) -> None:
    record = tmp_path / "record"
    worker = await workers.start(SLOTS_PROBE="1", DRAIN_SECONDS="30")
    short = await add(store, seconds=2, record=str(record))
    await children(record)
    worker.signal(signal.SIGTERM)
    later = await add(store, seconds=0)
    assert await exit_code(worker) == 0
    done = await get(store, short)
    assert (done.state, done.attempt) == ("completed", 1)
    assert (await get(store, later)).state == "pending"


async def test_a_drain_in_the_middle_of_commands_gives_them_back_uncounted(
    store: RedisJobStore, workers: Workers, objects: S3Objects
) -> None:
    worker = await workers.start(SLOTS_COMMAND="2", DRAIN_SECONDS="0.2")
    # The third one is not begun before the drain.
    ids = [await add(store, kind=JobKind.COMMAND, **encoding(seconds)) for seconds in (4, 4, 0.1)]

    async def two_encode() -> bool:
        return (await store.stats()).active == 2 and len(encoders(workers.work_folder)) == 2

    await until(two_encode)
    # Whoever shuts the machine down tells the programs, too.
    os.kill(encoders(workers.work_folder)[0], signal.SIGTERM)
    worker.signal(signal.SIGTERM)
    assert await exit_code(worker) == 0
    assert encoders(workers.work_folder) == []
    assert not any(workers.work_folder.iterdir()), "a work folder is left"
    for job_id in ids:
        job = await get(store, job_id)
        assert (job.state, job.tries, job.lost_workers) == ("pending", 0, 0)
    await workers.start(SLOTS_COMMAND="3")
    for job_id in ids:
        job = await until_state(store, job_id, "completed")
        assert job.failure is None
        written = await objects.get(f"ffmpeg-outputs/{job_id}/encoded.mkv")
        assert written is not None
        assert len(written) == job.result["outputs"][0]["size_bytes"]


def encoders(folder: Path) -> list[int]:
    """Pids of what runs ffmpeg in this folder; the launcher becomes it."""
    return [
        int(path.parent.name)
        for path in Path("/proc").glob("[0-9]*/cmdline")
        if path.parent.name.isdigit() and _runs_in(path, str(folder).encode())
    ]


def _runs_in(command_line: Path, folder: bytes) -> bool:
    try:
        words = command_line.read_bytes().split(b"\0")
    except OSError:
        return False
    return words[0].endswith(b"/ffmpeg") and any(folder in word for word in words)


async def test_a_passing_fault_is_tried_again_and_a_lasting_one_is_not(store: RedisJobStore, workers: Workers) -> None:
    await workers.start()
    passing = await add(store, fault="INPUT_UNAVAILABLE", may_pass=True)
    lasting = await add(store, fault="FFMPEG_FAILED")
    assert (await until_state(store, lasting, "failed")).attempt == 1
    job = await until_state(store, passing, "failed")
    assert (job.attempt, job.tries) == (3, 3)


async def test_kinds_have_slots_of_their_own(store: RedisJobStore, workers: Workers, tmp_path: Path) -> None:
    record = tmp_path / "record"
    await workers.start(SLOTS_PROBE="2")
    ids = [await add(store, seconds=60, record=str(record)) for _ in range(4)]
    await children(record, 2)
    stats = await store.stats()
    assert (stats.active, stats.kinds[JobKind.PROBE].ready) == (2, 2)
    for job_id in ids[:2]:
        assert await store.cancel(job_id) is Cancelled.CANCELLING
    await children(record, 4)
    stats = await store.stats()
    assert (stats.active, stats.kinds[JobKind.PROBE].ready) == (2, 0)


async def test_redis_killed_under_running_jobs_loses_nothing(juicefs_s3: S3Server, tmp_path: Path) -> None:
    """One start each: the outage is shorter than the lease, so the jobs just go on."""
    server = EmbeddedRedis(tmp_path / "redis")
    await server.start()
    rig = Workers(server.url, juicefs_s3, tmp_path)
    try:
        async with connect(RedisSettings(redis_url=server.url)) as client:
            store = RedisJobStore(client, JobPolicy(lease_seconds=3))
            record = tmp_path / "record"
            await rig.start(SLOTS_PROBE="2")
            ids = [await add(store, seconds=2.5, record=str(record), outputs=["a.mp4"]) for _ in range(2)]
            await children(record, 2)
            await kill_and_restart(server, 1.0)
            ids.append(await add(store, seconds=0))
            for job_id in ids:
                job = await until_state(store, job_id, "completed")
                assert (job.attempt, job.lost_workers) == (1, 0)
    finally:
        await rig.end()
        await server.stop()


async def test_redis_away_for_longer_than_the_lease_ends_the_child_and_runs_the_job_again(
    juicefs_s3: S3Server, tmp_path: Path
) -> None:
    server = EmbeddedRedis(tmp_path / "redis")
    await server.start()
    rig = Workers(server.url, juicefs_s3, tmp_path)
    try:
        async with connect(RedisSettings(redis_url=server.url)) as client:
            store = RedisJobStore(client, JobPolicy(lease_seconds=2))
            record = tmp_path / "record"
            await rig.start(**SHORT_LEASE)
            job_id = await add(store, seconds=60, again=0, record=str(record))
            (child,) = await children(record)
            await server.process.kill()
            await until_ended(child)
            await server.start()
            job = await until_state(store, job_id, "completed")
            assert (job.attempt, job.lost_workers) == (2, 0)
    finally:
        await rig.end()
        await server.stop()


async def kill_and_restart(server: EmbeddedRedis, seconds_down: float) -> None:
    await server.process.kill()
    await asyncio.sleep(seconds_down)
    await server.start()
