"""One run of one job: the handler, its progress, and what is written when it ends."""

from __future__ import annotations

import asyncio
import enum
import time
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

from services.common import logs, tasks
from services.common.errors import ReelwayError
from services.common.task_failure import TaskFailure
from services.ffmpeg.disk_fault import of_the_disk
from services.ffmpeg.job import JobFault, JobLease, Outage, Progress, is_outage
from services.ffmpeg.job_state import AttemptOutcome
from services.ffmpeg.process import ToldFullError
from services.ffmpeg.redis_job_store import Holding, RedisJobStore
from services.ffmpeg.transcription.failure import FailureReason
from services.ffmpeg.work_folder import WorkFolder, WorkRoot
from services.ffmpeg.worker.handler import Handler, JobContext, NoLongerHeld

log = logs.get_logger(__name__)

_FULL = "The worker's disk was full or failed; try again later"
_PROGRESS_SECONDS = 1.0
# A shutdown of the machine ends the programs that we run, too, and we may hear of it last.
_PROGRAM_ENDED, _SHUT_DOWN_SECONDS = (TaskFailure.INTERNAL, FailureReason.CRASHED), 1.0

_Answer = TypeVar("_Answer")

Fence = Callable[[JobContext], Awaitable[None]]
"""Shuts earlier attempts out of the object store."""


class Stop(enum.Enum):
    """Why an attempt is ended from outside."""

    LOST = "lost"
    CANCEL = "cancel"
    DRAIN = "drain"


class Attempt:
    """Holds the lease of one job while its handler runs.

    `deadline` is when the lease ends for sure, by this process's own monotonic clock, counted from the moment
    the renewal was *sent*: past it the attempt is lost, whether or not Redis can be asked. `draining` is set once this
    process is to end. `met_full_disk` once it has ended for want of room; `is_cut_off` once its lease has ended while
    Redis was away.
    """

    def __init__(
        self,
        lease: JobLease,
        deadline: float,
        handler: Handler,
        store: RedisJobStore,
        *,
        fence: Fence,
        work: WorkRoot,
        kill_seconds: float,
        draining: asyncio.Event,
        die: Callable[[], object],
    ) -> None:
        self.lease, self.deadline, self.met_full_disk, self.is_cut_off = lease, deadline, False, False
        self._handler, self._store, self._fence, self._work = handler, store, fence, work
        self._kill_seconds, self._draining, self._die = kill_seconds, draining, die
        self._task: asyncio.Task[Any] | None = None
        self._folder: WorkFolder | None = None
        self._stopped: Stop | None = None
        self._latest: Progress | None = None

    def stop(self, why: Stop) -> None:
        """End the handler; the first reason counts, except that a lost lease overrules all."""
        if why is Stop.LOST or self._stopped is None:
            self._stopped = why
        if self._task is not None and not self._task.done():
            self._task.cancel()
            asyncio.get_running_loop().call_later(self._kill_seconds, self._die_unless_ended, self._task)

    def _is_stopped(self) -> bool:
        return self._stopped is not None

    def _die_unless_ended(self, task: asyncio.Task[Any]) -> None:
        if not task.done():
            log.error("a handler does not stop: ending the process", job=self.lease.job.id)
            self._die()

    async def run(self) -> AttemptOutcome:
        """Run to the end -> what came of it, for the log and the metrics. Raises nothing."""
        fields = {"job": self.lease.job.id, "kind": self.lease.job.kind.value, "attempt": self.lease.job.attempt}
        log.info("job started", **fields)
        started = time.monotonic()
        outcome = await self._run()
        log.info("job ended", **fields, outcome=outcome.value, seconds=round(time.monotonic() - started, 3))
        return outcome

    async def _run(self) -> AttemptOutcome:
        progress = asyncio.create_task(self._write_progress())
        try:
            if self._is_stopped():
                return await self._end_stopped()
            self._task = asyncio.create_task(self._handle())
            await asyncio.wait([self._task])
        finally:
            await tasks.end(progress)
            if self._folder is not None:
                # Not in the handler's task, which the next stop would cancel.
                await asyncio.to_thread(self._folder.remove)
        error = None if self._task.cancelled() else self._task.exception()
        if error is None and not self._task.cancelled():
            return await self._end_done(self._task.result())
        if self._is_stopped():
            return await self._end_stopped()
        return await self._end_failed(error or RuntimeError("the handler cancelled itself"))

    async def _handle(self) -> Any:
        self._folder = self._work.create(self.lease.job.id)
        context = JobContext(self.lease, self._store, self._folder, self._show)
        if self.lease.job.attempt > 1:
            await self._fence(context)
        return await self._handler(context)

    def _show(self, progress: Progress) -> None:
        self._latest = progress

    async def _write_progress(self) -> None:
        written: Progress | None = None
        while True:
            await asyncio.sleep(_PROGRESS_SECONDS)
            if self._latest is None or self._latest == written:
                continue
            try:
                holding = await self._store.report(self.lease, self._latest)
            except ReelwayError:
                continue
            written = self._latest
            if holding is not Holding.HELD:
                self.stop(Stop.LOST if holding is Holding.LOST else Stop.CANCEL)

    async def _end_done(self, result: Any) -> AttemptOutcome:
        holding = await self._persist(lambda: self._store.complete(self.lease, result))
        return await self._end_cancelled() if holding is Holding.CANCEL else _outcome(holding, AttemptOutcome.COMPLETED)

    async def _end_stopped(self) -> AttemptOutcome:
        if self._stopped is Stop.LOST:
            return AttemptOutcome.LOST
        if self._stopped is Stop.DRAIN:
            return await self._give_back()
        return await self._end_cancelled()

    async def _give_back(self) -> AttemptOutcome:
        holding = await self._persist(lambda: self._store.release(self.lease))
        return _outcome(holding, AttemptOutcome.RELEASED)

    async def _end_cancelled(self) -> AttemptOutcome:
        # `fail` sees the cancel mark; if there is none any more, somebody else has the job.
        return await self._end_failed(JobFault(TaskFailure.CANCELLED, "Cancelled"))

    async def _end_failed(self, error: BaseException) -> AttemptOutcome:
        if isinstance(error, NoLongerHeld):
            return AttemptOutcome.LOST if error.holding is Holding.LOST else await self._end_cancelled()
        fault = self._fault(error)
        if fault.may_pass and fault.reason in _PROGRAM_ENDED:
            await tasks.until(self._draining, _SHUT_DOWN_SECONDS)
            if self._draining.is_set():
                return await self._give_back()
        why = fault.failure
        log.info("job failed", job=self.lease.job.id, reason=why.reason, message=why.message, again=fault.may_pass)
        outcome = await self._persist(lambda: self._store.fail(self.lease, fault))
        return outcome or AttemptOutcome.LOST

    def _fault(self, error: BaseException) -> JobFault:
        """What the job's owner is told of it."""
        if isinstance(error, JobFault):
            return error
        if isinstance(error, ReelwayError) and is_outage(error):
            return Outage(TaskFailure.STORAGE_UNAVAILABLE, "Storage was not available; try again later")
        if isinstance(error, ToldFullError):
            # No outage: one command that makes ffmpeg say so could send every worker to rest.
            return JobFault(TaskFailure.STORAGE_UNAVAILABLE, _FULL, may_pass=True)
        if of_the_disk(error):
            self.met_full_disk = True
            return Outage(TaskFailure.STORAGE_UNAVAILABLE, _FULL)
        log.error("job broke its handler", job=self.lease.job.id, exc_info=error)
        return JobFault(TaskFailure.INTERNAL, "Internal error; try again later", may_pass=True)

    async def _persist(self, write: Callable[[], Awaitable[_Answer]]) -> _Answer | None:
        """The store's answer; asked again while the store is away and the lease may still stand. None: lost."""
        while True:
            try:
                return await write()
            except ReelwayError:
                # The heartbeat moves the deadline once Redis is back.
                if time.monotonic() >= self.deadline:
                    return None
            await asyncio.sleep(0.3)


def _outcome(holding: Holding | None, held: AttemptOutcome) -> AttemptOutcome:
    if holding is Holding.HELD:
        return held
    return AttemptOutcome.CANCELLED if holding is Holding.CANCEL else AttemptOutcome.LOST
