"""Starts, stops, freezes and kills the processes that the job fault tests are about."""

import asyncio
import sys
import uuid
from pathlib import Path
from typing import Any

from deploy.local.process import Process
from services.ffmpeg.job import Job, NewJob
from services.ffmpeg.job_state import JobKind
from services.ffmpeg.redis_job_store import RedisJobStore
from tests.support.forked import Forked
from tests.support.servers import S3Server
from tests.support.system import passed_on
from tests.support.waiting import until

# So short that a test can wait for one to run out; the ratios are those of the defaults.
SHORT_LEASE = {"JOB_LEASE_SECONDS": "4"}
# Where none shall run out, a machine that has no time for a worker must not make one.
TIMES = {
    "JOB_LEASE_SECONDS": "15",
    "JOB_RENEW_SECONDS": "0.5",
    "JOB_STALLED_CHECK_SECONDS": "0.7",
    "JOB_BACKOFF_SECONDS": "0.2",
    "DRAIN_SECONDS": "5",
}


class Workers:
    """Worker processes of one test."""

    def __init__(self, redis_url: str, s3: S3Server, folder: Path) -> None:
        self._environment = {
            **passed_on(),
            **s3.environment,
            **TIMES,
            "REDIS_URL": redis_url,
            "WORK_DIR": str(folder / "work"),
            "LOG_FORMAT": "console",
        }
        self.work_folder = folder / "work"
        self._log = folder / "workers.log"
        self._running: list[Process] = []

    async def start(self, module: str = "tests.faults.jobs_worker", **environment: str) -> Process:
        worker = Forked("worker", [sys.executable, "-m", module], self._environment | environment, self._log)
        await worker.start()
        self._running.append(worker)
        return worker

    @property
    def log(self) -> str:
        return self._log.read_text() if self._log.exists() else ""

    async def end(self) -> None:
        await asyncio.gather(*(worker.kill() for worker in self._running))


async def add(store: RedisJobStore, owner: str = "anna", kind: JobKind = JobKind.PROBE, **spec: Any) -> str:
    job, _ = await store.register(NewJob(str(uuid.uuid4()), kind, owner, spec))
    return job.id


async def get(store: RedisJobStore, job_id: str) -> Job:
    found = await store.get(job_id)
    assert found is not None
    return found


async def until_state(store: RedisJobStore, job_id: str, state: str, seconds: float = 40) -> Job:
    """The job, once it is in this state."""
    try:
        await until(lambda: _is(store, job_id, state), seconds)
    except TimeoutError:
        raise AssertionError(f"not {state} in {seconds} s: {await store.get(job_id)}") from None
    return await get(store, job_id)


async def _is(store: RedisJobStore, job_id: str, state: str) -> bool:
    return (await get(store, job_id)).state == state


async def children(record: Path, at_least: int = 1) -> list[int]:
    """Pids that the scripted handler has noted, once there are so many."""

    def noted() -> list[int]:
        return [int(line) for line in record.read_text().split()] if record.exists() else []

    await until(lambda: len(noted()) >= at_least, 40)
    return noted()


async def exit_code(worker: Process, seconds: float = 40) -> int:
    """How the process ended, once it has."""
    return await asyncio.wait_for(worker.wait(), seconds)


async def gather_states(store: RedisJobStore, ids: list[str]) -> dict[str, Job]:
    """All jobs of these ids."""
    found = await asyncio.gather(*(get(store, job_id) for job_id in ids))
    return {job.id: job for job in found}
