"""Which uploads a process compacts, and how many at a time; what compacting one means is not part of it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Coroutine
from typing import Any

import pytest
from prometheus_client import REGISTRY
from structlog.testing import capture_logs

from services.common.clock import SystemClock
from services.common.error_catalog import ErrorReason
from services.common.errors import ReelwayError
from services.common.lease import LeaseLost
from services.upload.compaction import Compaction, Overtaken
from tests.support.waiting import until

ANY: Any = None


class Turns(Compaction):
    """Compacts what is `due` as soon as it is told to, alone in its system but for the leases that others hold."""

    def __init__(self, due: list[str], others: tuple[str, ...] = ()) -> None:
        self.due, self.others = due, others
        self.wake, self.may_end = asyncio.Event(), {video_id: asyncio.Event() for video_id in due}
        self.begun, self.at_work, self.put_off, self.store_is_away = list[str](), set[str](), dict[str, float](), False
        self.failures = dict[str, Exception]()
        super().__init__(
            sealing=self,  # type: ignore[arg-type]
            store=self,  # type: ignore[arg-type]
            lease=lambda video_id: _Lease(self, video_id),  # type: ignore[arg-type, return-value]
            clock=SystemClock(),
            objects=ANY,
            data=ANY,
            catalog=ANY,
            joiner=ANY,
        )

    async def compact(self, video_id: str) -> bool:
        self.begun.append(video_id)
        await self.may_end[video_id].wait()
        if video_id in self.failures:
            raise self.failures[video_id]
        return True

    async def to_compact(self, before: float) -> list[str]:
        if self.store_is_away:
            raise ReelwayError(ErrorReason.STORE_UNAVAILABLE)
        return list(self.due)

    async def compaction_done(self, video_id: str) -> None:
        self.due.remove(video_id)

    async def put_off_compaction(self, video_id: str, until: float) -> None:
        if self.store_is_away:
            raise ReelwayError(ErrorReason.STORE_UNAVAILABLE)
        self.put_off[video_id] = until - self._clock.seconds()
        self.due.remove(video_id)


class _Lease:
    def __init__(self, turns: Turns, video_id: str) -> None:
        self._turns, self._video_id, self._mine = turns, video_id, False

    async def take(self) -> bool:
        taken = self._video_id in self._turns.others or (self._video_id in self._turns.at_work and not self._mine)
        if not taken:
            self._mine = True
            self._turns.at_work.add(self._video_id)
        return not taken

    async def hold(self, work: Callable[[], Coroutine[Any, Any, bool]]) -> bool:
        assert await self.take()
        try:
            return await work()
        finally:
            self._turns.at_work.remove(self._video_id)

    async def release(self) -> None:
        self._mine = False


@pytest.fixture
async def running() -> AsyncIterator[Callable[[Turns], None]]:
    """Runs one for as long as the test lasts."""
    tasks: list[asyncio.Task[None]] = []
    yield lambda turns: tasks.append(asyncio.create_task(turns.run(3600)))
    for task in tasks:
        task.cancel()
    await asyncio.wait(tasks)


def starts(turns: Turns, running: Callable[[Turns], None]) -> None:
    running(turns)
    turns.wake.set()


def put_off_count() -> float:
    return REGISTRY.get_sample_value("reelway_put_off_total", {"what": "compaction"}) or 0


async def test_a_long_compaction_keeps_no_other_upload_waiting(running: Callable[[Turns], None]) -> None:
    turns = Turns(["long", "bad", "short"])
    turns.failures["bad"] = ReelwayError(ErrorReason.STORE_UNAVAILABLE)
    turns.may_end["short"].set()
    turns.may_end["bad"].set()
    starts(turns, running)
    await until(lambda: turns.due == ["long"])
    assert list(turns.put_off) == ["bad"]
    # Nor one that is sealed meanwhile.
    turns.due.append("new")
    turns.may_end["new"] = turns.may_end["short"]
    turns.wake.set()
    await until(lambda: turns.due == ["long"])
    turns.may_end["long"].set()
    await until(lambda: not turns.due)
    assert sorted(turns.begun) == ["bad", "long", "new", "short"], "each once"


async def test_only_a_few_are_compacted_at_a_time_and_those_of_others_take_no_turn(
    running: Callable[[Turns], None],
) -> None:
    names = [f"video {number}" for number in range(10)]
    turns = Turns(["foreign", "another", *names], others=("foreign", "another"))
    starts(turns, running)
    await until(lambda: turns.begun == names[:4])
    # Nor does one that is sealed meanwhile begin another.
    turns.wake.set()
    await until(lambda: not turns.wake.is_set())
    turns.may_end[names[2]].set()
    await until(lambda: len(turns.begun) > 4)
    assert turns.begun == names[:5]
    assert turns.at_work == {names[0], names[1], names[3], names[4]}
    for event in turns.may_end.values():
        event.set()
    await until(lambda: turns.due == ["foreign", "another"])
    assert turns.begun == names


async def test_what_has_waited_long_for_its_join_is_looked_at_rarely(running: Callable[[Turns], None]) -> None:
    pauses = {0: 2, 40: 10, 10_000: 15}
    turns = Turns([f"{waited} s" for waited in pauses])
    for video_id, waited in zip(turns.due, pauses, strict=True):
        since = {"since": str(time.time() - waited)}
        turns.failures[video_id] = ReelwayError(ErrorReason.JOINING, metadata=since)
        turns.may_end[video_id].set()
    starts(turns, running)
    await until(lambda: not turns.due)
    assert turns.put_off == {f"{waited} s": pytest.approx(pause, abs=1) for waited, pause in pauses.items()}


@pytest.mark.parametrize("reason", [ErrorReason.JOIN_FAILED, ErrorReason.NOT_A_VIDEO])
async def test_what_will_not_go_better_is_looked_at_rarely(
    running: Callable[[Turns], None], reason: ErrorReason
) -> None:
    turns = Turns(["one"])
    turns.failures["one"] = ReelwayError(reason)
    turns.may_end["one"].set()
    starts(turns, running)
    await until(lambda: not turns.due)
    assert turns.put_off == {"one": pytest.approx(3600, abs=1)}


@pytest.mark.parametrize(
    ("failure", "counted"),
    [
        (ReelwayError(ErrorReason.STORE_UNAVAILABLE), 1),
        (RuntimeError("nobody foresaw this"), 1),
        (ReelwayError(ErrorReason.JOINING), 0),
        # For so long that it is looked at as rarely as what failed.
        (ReelwayError(ErrorReason.JOINING, metadata={"since": "0"}), 0),
        (ReelwayError(ErrorReason.JOIN_FAILED), 0),
    ],
)
async def test_what_fails_for_our_reasons_is_counted(
    running: Callable[[Turns], None], failure: Exception, counted: int
) -> None:
    """Who sends clips that cannot be joined is to alert nobody."""
    before, turns = put_off_count(), Turns(["one"])
    turns.failures["one"] = failure
    turns.may_end["one"].set()
    starts(turns, running)
    await until(lambda: not turns.due)
    assert put_off_count() - before == counted


async def test_where_another_process_is_at_it_too_it_is_gone_on_with_soon(running: Callable[[Turns], None]) -> None:
    turns = Turns(["one"])
    turns.failures["one"] = Overtaken()
    turns.may_end["one"].set()
    starts(turns, running)
    await until(lambda: not turns.due)
    assert turns.put_off == {"one": pytest.approx(15, abs=1)}


async def test_who_lost_the_lease_leaves_the_upload_to_who_has_it(running: Callable[[Turns], None]) -> None:
    before, turns = put_off_count(), Turns(["one"])
    turns.failures["one"] = LeaseLost()
    starts(turns, running)
    await until(lambda: turns.begun == ["one"])
    turns.others = ("one",)
    turns.may_end["one"].set()
    await until(lambda: not turns._at_work)
    assert (turns.due, turns.put_off, put_off_count()) == (["one"], {}, before)


async def test_what_came_of_a_compaction_is_told_where_it_cannot_be_noted(running: Callable[[Turns], None]) -> None:
    turns = Turns(["one"])
    turns.failures["one"] = ReelwayError(ErrorReason.JOINING)
    starts(turns, running)
    await until(lambda: turns.begun == ["one"])
    turns.store_is_away = True
    turns.may_end["one"].set()
    with capture_logs() as lines:
        await until(lambda: len(lines) > 1)
    assert {"what": "compaction", "video_id": "one"}.items() <= lines[0].items()
    turns.store_is_away = False
    turns.wake.set()
    await until(lambda: not turns.due)


async def test_who_is_told_to_end_ends_what_is_at_work() -> None:
    turns = Turns(["one", "two"])
    turns.wake.set()
    run = asyncio.create_task(turns.run(3600))
    await until(lambda: len(turns.at_work) == 2)
    run.cancel()
    await asyncio.wait([run])
    assert not turns.at_work
    assert turns.due == ["one", "two"]


async def test_a_store_that_is_away_is_asked_again(running: Callable[[Turns], None]) -> None:
    turns = Turns(["one"])
    turns.may_end["one"].set()
    turns.store_is_away = True
    starts(turns, running)
    await until(lambda: not turns.wake.is_set())
    turns.store_is_away = False
    turns.wake.set()
    await until(lambda: not turns.due)
