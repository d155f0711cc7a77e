"""Tasks that belong together: how they end."""

import asyncio

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
