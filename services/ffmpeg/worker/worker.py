"""One worker process: claims jobs for its free slots, keeps their leases, ends them in order."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import itertools
import os
import random
import time
import uuid
from collections.abc import Mapping
from dataclasses import dataclass

from prometheus_client import Counter, Gauge

from services.common import logs, tasks
from services.common.error_catalog import ErrorReason
from services.common.errors import ReelwayError
from services.ffmpeg.job import JobLease
from services.ffmpeg.job_state import AttemptOutcome, JobKind
from services.ffmpeg.redis_job_store import CANCEL, WAKE, Holding, RedisJobStore
from services.ffmpeg.work_folder import WorkRoot
from services.ffmpeg.worker.attempt import Attempt, Fence, Stop
from services.ffmpeg.worker.disk_rest import DiskRest
from services.ffmpeg.worker.handler import Handlers

log = logs.get_logger(__name__)

ENDED = Counter("reelway_jobs_ended_total", "Attempts ended, by outcome", ["kind", "outcome"])
RUNNING = Gauge("reelway_jobs_running", "Attempts under way", ["kind"])

# Even without a wake-up (lost with a connection) work is found within this time; also moves due retries.
_POLL_SECONDS = 1.0


@dataclass(frozen=True)
class WorkerTimes:
    """Seconds; the settings of the same names explain them."""

    lease: float = 60.0
    renew: float = 10.0
    stalled_check: float = 15.0
    drain: float = 30.0
    # A handler that has not obeyed its cancellation by then ends the process, and its children with it.
    kill: float = 15.0


class Worker:
    """Runs until cancelled, then drains: takes nothing new, waits, gives back what is left."""

    def __init__(
        self,
        store: RedisJobStore,
        handlers: Handlers,
        slots: Mapping[JobKind, int],
        work: WorkRoot,
        *,
        fence: Fence,
        times: WorkerTimes,
    ) -> None:
        self._store, self._handlers, self._fence, self._times, self._work = store, handlers, fence, times, work
        self.name = uuid.uuid4().hex
        self._free = {kind: slots[kind] for kind in JobKind if kind in handlers and slots[kind] > 0}
        # Each series begins at 0: Prometheus' rate() does not see an increment with which one begins. All kinds have
        # one, since this worker may find that one with other kinds has died.
        for kind, outcome in itertools.product(JobKind, AttemptOutcome):
            ENDED.labels(kind.value, outcome.value)
        self._attempts: dict[str, Attempt] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._look = asyncio.Event()
        self._beat = asyncio.Event()
        # Redis answered the latest renewal.
        self._in_touch = asyncio.Event()
        self._cut_off: asyncio.Queue[JobLease] = asyncio.Queue()
        self._draining = asyncio.Event()
        self._rest = DiskRest()
        self._refusal: BaseException | None = None

    def require_room(self) -> None:
        """Raise OSError ENOSPC while no jobs are taken because the disk was full."""
        if self._rest.lasts:
            raise OSError(errno.ENOSPC, "the disk was full")

    def require_claims(self) -> None:
        """Raise STORE_UNAVAILABLE, with what Redis said, while it refuses our claims: full, it answers a ping."""
        if self._refusal is not None:
            raise ReelwayError(ErrorReason.STORE_UNAVAILABLE) from self._refusal

    async def run(self) -> None:
        """Claim and run jobs; cancel this task to drain."""
        log.info("worker started", worker=self.name, slots={str(kind): n for kind, n in self._free.items()})
        loops = (self._listen, self._keep_leases, self._give_back, self._reap)
        helpers = [asyncio.create_task(loop()) for loop in loops]
        claiming = asyncio.create_task(self._claim())
        try:
            # Any of them ending is a defect: let the process end rather than rot.
            await asyncio.wait([claiming, *helpers], return_when=asyncio.FIRST_COMPLETED)
        finally:
            await self._drain(claiming)
            await tasks.end(claiming, *helpers)
            with contextlib.suppress(ReelwayError):
                await self._store.leave(self.name)
        for task in (claiming, *helpers):
            if not task.cancelled() and (error := task.exception()):
                raise error

    async def _claim(self) -> None:
        # The nonce of a claim that was not answered: the same one again brings the job, if it was done after all.
        unanswered = ""
        while not self._draining.is_set():
            self._look.clear()
            kinds = [kind for kind, free in self._free.items() if free > 0 and not self._rest.lasts]
            sent, lease = time.monotonic(), None
            if kinds or unanswered:
                unanswered = unanswered or uuid.uuid4().hex
                try:
                    lease = await self._store.claim(self.name, unanswered, kinds)
                except ReelwayError as error:
                    self._refusal = error.__cause__
                    await tasks.until(self._look, random.uniform(0.2, 1.0))  # noqa: S311 - spread, no secret
                    continue
                unanswered, self._refusal = "", None
            if lease is None:
                await tasks.until(self._look, _POLL_SECONDS * random.uniform(0.7, 1.0))  # noqa: S311 - spread
                continue
            self._begin(lease, sent + self._times.lease)
        if unanswered:
            with contextlib.suppress(ReelwayError):
                if lease := await self._store.claim(self.name, unanswered, []):
                    await self._store.release(lease)

    def _begin(self, lease: JobLease, deadline: float) -> None:
        kind = lease.job.kind
        attempt = Attempt(
            lease,
            deadline,
            self._handlers[kind],
            self._store,
            fence=self._fence,
            work=self._work,
            kill_seconds=self._times.kill,
            draining=self._draining,
            # Children are tied to this process: they end with it.
            die=lambda: os._exit(70),
        )
        self._free[kind] -= 1
        self._attempts[lease.job.id] = attempt
        # It may have been cancelled before we knew that it is ours: the next renewal tells.
        self._beat.set()
        task = asyncio.create_task(self._attempt(attempt, kind))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _attempt(self, attempt: Attempt, kind: JobKind) -> None:
        outcome = AttemptOutcome.BROKEN
        RUNNING.labels(kind.value).inc()
        try:
            outcome = await attempt.run()
        except Exception:
            # Its lease runs out, and the job goes to another worker.
            log.exception("attempt broke", job=attempt.lease.job.id)
        finally:
            RUNNING.labels(kind.value).dec()
            ENDED.labels(kind.value, outcome.value).inc()
            if attempt.met_full_disk:
                log.warning("the disk is full: no jobs are taken for a while", job=attempt.lease.job.id)
                self._rest.met_full_disk()
            elif outcome is AttemptOutcome.COMPLETED:
                self._rest.had_room()
            self._free[kind] += 1
            # A later attempt at the same job may be ours, too.
            if self._attempts.get(attempt.lease.job.id) is attempt:
                del self._attempts[attempt.lease.job.id]
            if outcome is AttemptOutcome.LOST and (attempt.is_cut_off or not self._in_touch.is_set()):
                self._cut_off.put_nowait(attempt.lease)
            self._look.set()

    async def _listen(self) -> None:
        """Wake-ups and cancels as they are published."""
        async for channel, message in self._store.listen(WAKE, CANCEL):
            if channel == CANCEL:
                if attempt := self._attempts.get(message):
                    attempt.stop(Stop.CANCEL)
            else:
                self._look.set()
                if not channel:
                    # What was published while we were away: the next renewal tells.
                    self._beat.set()

    async def _keep_leases(self) -> None:
        while True:
            pause = self._times.renew if self._in_touch.is_set() else min(1.0, self._times.renew)
            await tasks.until(self._beat, pause)
            self._beat.clear()
            # After a stop of this process (SIGSTOP, a long swap) the deadlines are past before Redis is asked.
            self._drop_expired()
            if await self._renew():
                self._in_touch.set()
            else:
                self._in_touch.clear()
            self._drop_expired()

    async def _renew(self) -> bool:
        attempts = list(self._attempts.values())
        sent = time.monotonic()
        try:
            async with asyncio.timeout(max(1.0, self._times.renew / 2)):
                answers = await self._store.renew(self.name, [attempt.lease for attempt in attempts])
        except (ReelwayError, TimeoutError):
            return False
        for attempt, holding in zip(attempts, answers, strict=True):
            if holding is Holding.LOST:
                # Ended just now, or truly lost; stopping an ended attempt does nothing.
                attempt.stop(Stop.LOST)
                continue
            attempt.deadline = sent + self._times.lease
            if holding is Holding.CANCEL:
                attempt.stop(Stop.CANCEL)
        return True

    def _drop_expired(self) -> None:
        now = time.monotonic()
        for attempt in self._attempts.values():
            if now >= attempt.deadline:
                # Redis may be back before its handler has ended.
                attempt.is_cut_off |= not self._in_touch.is_set()
                attempt.stop(Stop.LOST)

    async def _give_back(self) -> None:
        """Jobs that ended because Redis was away: this worker lives, and is not to be counted as lost.

        Where another one has the job by now, this changes nothing.
        """
        while True:
            lease = await self._cut_off.get()
            await self._in_touch.wait()
            try:
                await self._store.release(lease)
            except ReelwayError:
                # Away again, or full.
                self._cut_off.put_nowait(lease)
                await asyncio.sleep(_POLL_SECONDS)

    async def _reap(self) -> None:
        while True:
            # After Redis was away, those who live have this pause to give back what they lost meanwhile.
            await self._in_touch.wait()
            await asyncio.sleep(self._times.stalled_check * random.uniform(0.8, 1.2))  # noqa: S311 - spread
            if not self._in_touch.is_set():
                continue
            with contextlib.suppress(ReelwayError):
                await self._reap_jobs()
            if swept := await asyncio.to_thread(self._work.sweep):
                log.warning("work folders of dead workers removed", workers=swept)

    async def _reap_jobs(self) -> None:
        for job_id, what in (await self._store.reap()).items():
            log.warning("lease ran out", job=job_id, outcome=what)
            # Counted here for a worker that is gone; one that was only frozen, or is broken, counts it, too.
            if (job := await self._store.get(job_id)) is not None:
                ENDED.labels(job.kind.value, AttemptOutcome.DIED.value).inc()

    async def _drain(self, claiming: asyncio.Task[None]) -> None:
        self._draining.set()
        self._look.set()
        log.info("draining", worker=self.name, jobs=len(self._tasks), seconds=self._times.drain)
        await self._within(self._times.drain, claiming, *self._tasks)
        for attempt in self._attempts.values():
            attempt.stop(Stop.DRAIN)
        # Beyond the killing time: what is left are writes to a store that does not answer.
        await self._within(self._times.kill + 5, *self._tasks)

    @staticmethod
    async def _within(seconds: float, *running: asyncio.Task[None]) -> None:
        if running:
            await asyncio.wait(running, timeout=seconds)
