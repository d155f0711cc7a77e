"""Tasks that belong together: how they end."""

import asyncio
import threading

import pytest

from services.common import tasks


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


async def test_the_first_failure_comes_out_when_the_others_have_ended() -> None:
    ended = []

    async def long() -> None:
        try:
            await asyncio.sleep(60)
        finally:
            await asyncio.sleep(0)
            ended.append("long")

    async def broken() -> None:
        raise ValueError("broken")

    with pytest.raises(ValueError, match="broken"):
        await tasks.all_of([long(), broken()])
    assert ended == ["long"]


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
