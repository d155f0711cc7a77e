"""How one attempt ends, with a store that can be told to be away."""

import asyncio
import errno
import threading
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from services.common.error_catalog import ErrorReason
from services.common.errors import ReelwayError
from services.common.task_failure import TaskFailure
from services.ffmpeg.job import Job, JobFault, JobLease, Outage, Progress
from services.ffmpeg.job_state import AttemptOutcome, JobKind, JobState, Priority
from services.ffmpeg.process import ToldFullError
from services.ffmpeg.redis_job_store import Holding
from services.ffmpeg.transcription.failure import FailureReason
from services.ffmpeg.work_folder import WorkRoot
from services.ffmpeg.worker import attempt
from services.ffmpeg.worker.attempt import Attempt, Stop
from services.ffmpeg.worker.handler import JobContext, NoLongerHeld
from tests.support.waiting import until


class Store:
    """Notes what an attempt writes; away for its first `away` calls."""

    def __init__(self, away: int = 0, holding: Holding = Holding.HELD) -> None:
        self.away, self.holding = away, holding
        self.written: list[Any] = []
        self.reported: list[tuple[float, Progress]] = []

    async def complete(self, lease: JobLease, result: Mapping[str, Any]) -> Holding:
        self._answer(("complete", result) if self.holding is Holding.HELD else None)
        return self.holding

    async def fail(self, lease: JobLease, fault: JobFault) -> AttemptOutcome:
        self._answer(("fail", fault.failure.reason, "outage" if isinstance(fault, Outage) else fault.may_pass))
        return AttemptOutcome.RETRY if fault.may_pass else AttemptOutcome.FAILED

    async def release(self, lease: JobLease) -> Holding:
        self._answer(("release",))
        return self.holding

    async def report(self, lease: JobLease, progress: Progress) -> Holding:
        self.reported.append((time.monotonic(), progress))
        self._answer(None)
        return self.holding

    def _answer(self, written: Any) -> None:
        if self.away > 0:
            self.away -= 1
            raise ReelwayError(ErrorReason.STORE_UNAVAILABLE)
        if written:
            self.written.append(written)


class Case:
    """One attempt of one handler."""

    def __init__(
        self, root: WorkRoot, handler: Callable[[JobContext], Awaitable[Any]], store: Store, **job: Any
    ) -> None:
        self.died = self.fenced = 0
        self.draining = asyncio.Event()
        given: dict[str, Any] = {"state": JobState.RUNNING, "created_ms": 0, "attempt": 1} | job
        lease = JobLease(Job("id", JobKind.COMMAND, "anna", {}, Priority.NORMAL, **given), token=1)
        self.attempt = Attempt(
            lease,
            time.monotonic() + 60,
            handler,
            store,  # type: ignore[arg-type]  # what an attempt calls, no more
            fence=self._fence,
            work=root,
            kill_seconds=30,
            draining=self.draining,
            die=self._die,
        )

    async def _fence(self, context: JobContext) -> None:
        self.fenced += 1

    def _die(self) -> None:
        self.died += 1


@pytest.fixture
def root(tmp_path: Path) -> WorkRoot:
    return WorkRoot(tmp_path)


async def done(context: JobContext) -> dict[str, int]:
    return {"n": 1}


async def forever(context: JobContext) -> None:
    await asyncio.Event().wait()


def failing(error: Exception) -> Callable[[JobContext], Awaitable[None]]:
    async def handler(context: JobContext) -> None:
        raise error

    return handler


async def test_a_result_waits_for_a_store_that_is_away(root: WorkRoot) -> None:
    store = Store(away=2)
    assert await Case(root, done, store).attempt.run() is AttemptOutcome.COMPLETED
    assert store.written == [("complete", {"n": 1})]


async def test_it_gives_up_when_the_lease_has_run_out_meanwhile(root: WorkRoot) -> None:
    store, case = Store(away=10_000), None
    case = Case(root, done, store)
    case.attempt.deadline = time.monotonic() + 0.4
    assert await case.attempt.run() is AttemptOutcome.LOST
    assert store.written == []


@pytest.mark.parametrize(
    ("error", "written"),
    [
        (JobFault(TaskFailure.FFMPEG_FAILED, "x"), ("fail", "FFMPEG_FAILED", False)),
        (JobFault(TaskFailure.INPUT_UNAVAILABLE, "x", may_pass=True), ("fail", "INPUT_UNAVAILABLE", True)),
        (Outage(TaskFailure.INPUT_UNAVAILABLE, "x"), ("fail", "INPUT_UNAVAILABLE", "outage")),
        (ReelwayError(ErrorReason.STORE_UNAVAILABLE), ("fail", "STORAGE_UNAVAILABLE", "outage")),
        (ReelwayError(ErrorReason.TIMEOUT), ("fail", "STORAGE_UNAVAILABLE", "outage")),
        (ReelwayError(ErrorReason.INTERNAL), ("fail", "INTERNAL", True)),
        (OSError(errno.ENOSPC, "secret"), ("fail", "STORAGE_UNAVAILABLE", "outage")),
        (OSError(errno.EIO, "secret"), ("fail", "STORAGE_UNAVAILABLE", "outage")),
        (ToldFullError(errno.ENOSPC, "secret"), ("fail", "STORAGE_UNAVAILABLE", True)),
        (OSError(errno.EBADF, "secret"), ("fail", "INTERNAL", True)),
        (RuntimeError("secret"), ("fail", "INTERNAL", True)),
        (NoLongerHeld(Holding.CANCEL), ("fail", "CANCELLED", False)),
    ],
)
async def test_faults_are_told_apart(
    root: WorkRoot, error: Exception, written: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(attempt, "_SHUT_DOWN_SECONDS", 0)
    store = Store()
    case = Case(root, failing(error), store)
    await case.attempt.run()
    assert store.written == [written]
    assert case.attempt.met_full_disk is (type(error) is OSError and error.errno in (errno.ENOSPC, errno.EIO))


@pytest.mark.parametrize("reason", [TaskFailure.INTERNAL, FailureReason.CRASHED])
async def test_a_program_that_is_ended_with_this_process_costs_no_try(
    root: WorkRoot, reason: TaskFailure | FailureReason
) -> None:
    """We may be told last."""
    store = Store()

    async def handler(context: JobContext) -> None:
        asyncio.get_running_loop().call_later(0.05, case.draining.set)
        raise JobFault(reason, "x", may_pass=True)

    case = Case(root, handler, store)
    assert await case.attempt.run() is AttemptOutcome.RELEASED
    assert store.written == [("release",)]


async def test_a_lost_attempt_writes_nothing(root: WorkRoot) -> None:
    store = Store(holding=Holding.LOST)
    assert await Case(root, failing(NoLongerHeld(Holding.LOST)), store).attempt.run() is AttemptOutcome.LOST
    assert await Case(root, done, store).attempt.run() is AttemptOutcome.LOST
    assert store.written == []


@pytest.mark.parametrize(
    ("why", "written"),
    [(Stop.LOST, []), (Stop.DRAIN, [("release",)]), (Stop.CANCEL, [("fail", "CANCELLED", False)])],
)
@pytest.mark.parametrize("begun", [True, False])
async def test_what_stops_it_decides_what_is_written(
    root: WorkRoot, why: Stop, written: list[Any], begun: bool
) -> None:
    store = Store()
    case = Case(root, forever, store)
    running = asyncio.create_task(case.attempt.run())
    if begun:
        await asyncio.sleep(0)
    case.attempt.stop(why)
    # A lost lease overrules; nothing overrules a lost lease.
    case.attempt.stop(Stop.DRAIN)
    await running
    assert store.written == written
    assert case.died == 0


async def test_a_handler_that_does_not_obey_ends_the_process(root: WorkRoot) -> None:
    begun, release = asyncio.Event(), asyncio.Event()

    async def stubborn(context: JobContext) -> None:
        begun.set()
        while not release.is_set():
            try:
                await release.wait()
            except asyncio.CancelledError:
                continue

    case = Case(root, stubborn, Store())
    case.attempt._kill_seconds = 0.01
    running = asyncio.create_task(case.attempt.run())
    await begun.wait()
    case.attempt.stop(Stop.LOST)
    await until(lambda: case.died > 0)
    release.set()
    await running
    assert case.died == 1


async def test_progress_is_written_once_a_second_however_often_it_is_shown(root: WorkRoot) -> None:
    store = Store()
    shown = Progress()

    async def busy(context: JobContext) -> None:
        nonlocal shown
        while len(store.reported) < 2:
            shown = replace(shown, media_seconds=shown.media_seconds + 1)
            context.show(shown)
            await asyncio.sleep(0.01)

    began = time.monotonic()
    await Case(root, busy, store).attempt.run()
    (first, earlier), (second, later) = store.reported
    assert min(first - began, second - first) > 0.99
    assert earlier.media_seconds < later.media_seconds <= shown.media_seconds


@pytest.mark.parametrize(("holding", "written"), [(Holding.LOST, []), (Holding.CANCEL, [("fail", "CANCELLED", False)])])
async def test_progress_that_nobody_wants_any_more_is_the_last(
    root: WorkRoot, monkeypatch: pytest.MonkeyPatch, holding: Holding, written: list[Any]
) -> None:
    monkeypatch.setattr("services.ffmpeg.worker.attempt._PROGRESS_SECONDS", 0.01)

    async def shows(context: JobContext) -> None:
        context.show(Progress(0.5))
        await forever(context)

    store = Store(away=1, holding=holding)
    await Case(root, shows, store).attempt.run()
    assert (len(store.reported), store.written) == (2, written)
    assert not any("_write_progress" in repr(task) for task in asyncio.all_tasks())


async def test_only_later_attempts_fence_earlier_ones(root: WorkRoot) -> None:
    first, second = Case(root, done, Store()), Case(root, done, Store(), attempt=2)
    await first.attempt.run()
    await second.attempt.run()
    assert (first.fenced, second.fenced) == (0, 1)


async def test_the_work_folder_goes_with_the_attempt(root: WorkRoot) -> None:
    folders: list[Path] = []

    async def look(context: JobContext) -> None:
        folders.append(context.folder.path)
        assert sorted(path.name for path in context.folder.path.iterdir()) == ["in", "out", "tmp"]
        raise JobFault(TaskFailure.FFMPEG_FAILED, "x")

    await Case(root, look, Store()).attempt.run()
    assert not folders[0].exists()


async def test_a_second_stop_leaves_no_work_folder(root: WorkRoot) -> None:
    """A job that is cancelled is told so by the channel, by its progress and by its lease."""
    begun, ended, room = asyncio.Event(), asyncio.Event(), threading.Event()
    folders: list[Path] = []

    async def handler(context: JobContext) -> None:
        folders.append(context.folder.path)
        begun.set()
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()

    case = Case(root, handler, Store())
    running = asyncio.create_task(case.attempt.run())
    await begun.wait()
    # All threads that there may be are taken.
    taken = [asyncio.create_task(asyncio.to_thread(room.wait)) for _ in range(33)]
    await asyncio.sleep(0)
    case.attempt.stop(Stop.CANCEL)
    await ended.wait()
    case.attempt.stop(Stop.CANCEL)
    # What the second one cuts off has ended before there is a thread for the folder's removal.
    await asyncio.sleep(0)
    room.set()
    await asyncio.gather(*taken)
    assert await running is AttemptOutcome.FAILED
    assert not folders[0].exists()
