"""Tasks that belong together: how they end."""

import asyncio
import gc
import threading
from collections.abc import AsyncIterator

import pytest

from services.common import tasks
from tests.support.waiting import until


async def _forgetful(cancellations: list[int]) -> None:
    while True:
        try:
            await asyncio.sleep(30)
        except asyncio.CancelledError:
            cancellations.append(1)
            if len(cancellations) > 1:
                raise


async def test_a_lost_cancellation_is_repeated() -> None:
    cancellations: list[int] = []
    task = asyncio.create_task(_forgetful(cancellations))
    await asyncio.sleep(0)
    async with asyncio.timeout(30):
        await tasks.end(task)
    assert task.cancelled()
    assert len(cancellations) == 2


async def test_what_has_ended_is_let_be() -> None:
    task = asyncio.create_task(asyncio.sleep(0))
    await task
    await tasks.end(task)
    assert not task.cancelled()


async def test_background_work_that_fails_ends_no_wait_for_the_rest() -> None:
    background, go_on = tasks.Background(), asyncio.Event()

    async def fails() -> None:
        raise ValueError

    async def goes_on() -> None:
        await go_on.wait()

    failing, going = background.start(fails()), background.start(goes_on())
    waiting = asyncio.create_task(background.wait())
    await asyncio.wait([failing])
    asyncio.get_running_loop().call_soon(go_on.set)
    await waiting
    assert going.done()
    assert isinstance(failing.exception(), ValueError)


async def test_the_first_failure_comes_out_when_the_others_have_ended() -> None:
    ended = []

    async def long() -> None:
        try:
            await asyncio.sleep(60)
        finally:
            for _ in range(5):
                await asyncio.sleep(0)
            ended.append("long")

    async def broken() -> None:
        raise ValueError("broken")

    with pytest.raises(ValueError, match="broken"):
        await tasks.all_of([long(), broken()])
    assert ended == ["long"]


async def test_what_does_not_happen_is_not_waited_for_any_longer() -> None:
    async with asyncio.timeout(10):
        await tasks.until(asyncio.Event(), 0.001)


async def test_who_is_cancelled_goes_on_when_the_thread_has_ended() -> None:
    """What it works on is closed behind it."""
    begun, may_end, ended = threading.Event(), threading.Event(), threading.Event()

    def work() -> None:
        begun.set()
        may_end.wait(30)
        ended.set()

    task = asyncio.create_task(tasks.in_thread(work))
    await asyncio.to_thread(begun.wait, 30)
    for _ in range(3):
        task.cancel()
        await asyncio.sleep(0.01)
        assert not task.done()
    may_end.set()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert ended.is_set()


async def test_what_a_thread_brings_or_raises_comes_out() -> None:
    assert await tasks.in_thread(divmod, 7, 2) == (3, 1)
    with pytest.raises(ZeroDivisionError):
        await tasks.in_thread(divmod, 7, 0)


async def test_who_comes_in_the_moment_in_which_work_ends_begins_it_again() -> None:
    """Given the old answer at once, one who asks until another comes would never let the loop go on."""
    flight, answered, asked = tasks.SingleFlight[str, int](), asyncio.Event(), 0

    async def work() -> int:
        nonlocal asked
        asked += 1
        await answered.wait()
        return asked

    async def late() -> int:
        await answered.wait()
        return await flight.run("key", work)

    first = asyncio.create_task(flight.run("key", work))
    await asyncio.sleep(0)
    second = asyncio.create_task(late())
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    answered.set()
    assert (await first, await second) == (1, 2)


def test_a_failure_that_nobody_waits_for_any_more_is_no_line_in_the_log() -> None:
    async def fail() -> list[str]:
        flight, may_end, told = tasks.SingleFlight[str, None](), asyncio.Event(), list[str]()
        asyncio.get_running_loop().set_exception_handler(lambda _, context: told.append(context["message"]))

        async def broken() -> None:
            await may_end.wait()
            raise ValueError("broken")

        asker = asyncio.create_task(flight.run("key", broken))
        await asyncio.sleep(0)
        await tasks.end(asker)
        may_end.set()
        await until(lambda: not flight._going)
        # It is told when the task is collected, which the one that asked holds.
        del asker
        cancelled = asyncio.create_task(asyncio.sleep(60))
        cancelled.add_done_callback(tasks.look_at)
        await tasks.end(cancelled)
        gc.collect()
        return told

    # In a loop of its own, which tells nothing of what other tests left.
    assert not asyncio.run(fail())


async def test_of_many_calls_a_few_run_at_a_time_and_each_brings_its_own() -> None:
    under_way, most = 0, 0

    async def work(number: int) -> int:
        nonlocal under_way, most
        under_way += 1
        most = max(most, under_way)
        await asyncio.sleep(0)
        under_way -= 1
        return -number

    assert await tasks.all_of(map(tasks.at_most(3, work), range(7))) == [0, -1, -2, -3, -4, -5, -6]
    assert most == 3


@pytest.mark.parametrize("is_listed_meanwhile", [False, True])
async def test_each_of_many_is_worked_on_beside_a_few_others(is_listed_meanwhile: bool) -> None:
    under_way, done = list[int](), list[list[int]]()

    async def work(number: int) -> None:
        under_way.append(number)
        await asyncio.sleep(0)
        done.append(list(under_way))
        under_way.remove(number)

    async def listed() -> AsyncIterator[int]:
        for number in range(7):
            yield number

    await (tasks.for_each_of(listed(), work, 3) if is_listed_meanwhile else tasks.for_each(range(7), work, 3))
    assert done == [[0, 1, 2], [1, 2], [2], [3, 4, 5], [4, 5], [5], [6]]
