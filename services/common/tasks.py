"""Tasks that belong together, and their end."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterable, Awaitable, Callable, Coroutine, Iterable, Sequence
from typing import Any, Generic, ParamSpec, TypeVar

_Key = TypeVar("_Key")
_Result = TypeVar("_Result")
_Item = TypeVar("_Item")
_Arguments = ParamSpec("_Arguments")
_AGAIN_SECONDS = 0.5


class Background:
    """Work that its caller does not wait for."""

    def __init__(self) -> None:
        # The event loop holds tasks weakly: one that nobody else holds may be garbage-collected.
        self._going: set[asyncio.Task[None]] = set()

    def start(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """Begin it, in the caller's context."""
        task = asyncio.create_task(work)
        self._going.add(task)
        task.add_done_callback(self._going.discard)
        return task

    async def wait(self) -> None:
        """Until all that was begun has ended; what it raised is not told here."""
        while self._going:
            await asyncio.wait(self._going)


def look_at(ended: asyncio.Task[Any]) -> None:
    """A task's callback: asyncio logs no error for it where nobody is left to hear of its failure."""
    if not ended.cancelled():
        ended.exception()


class SingleFlight(Generic[_Key, _Result]):
    """Work that is done once for all who ask for it at the same time."""

    def __init__(self) -> None:
        self._going: dict[_Key, asyncio.Task[_Result]] = {}

    async def run(self, key: _Key, work: Callable[[], Coroutine[Any, Any, _Result]]) -> _Result:
        """What `work` brings, or what the work brings that goes on under this key; failures, too, are for all."""
        task = self._going.get(key)
        if task is None:
            task = self._going[key] = asyncio.create_task(self._once(key, work))
            # All who asked may have left.
            task.add_done_callback(look_at)
        # A caller that is cancelled must not end it for the others.
        return await asyncio.shield(task)

    async def _once(self, key: _Key, work: Callable[[], Coroutine[Any, Any, _Result]]) -> _Result:
        try:
            return await work()
        finally:
            # Not in a callback of the task: a caller that asks again at once would get the old answer before it ran.
            del self._going[key]


_leaving = Background()


async def end(*tasks: asyncio.Task[object]) -> None:
    """Cancel tasks and wait for their end; what they raised is theirs to tell.

    Cancelled again while they go on: a library that uses asyncio.wait_for loses, in Python 3.11, a cancellation that
    comes as its work ends.
    """
    while going := [task for task in tasks if not task.done()]:
        for task in going:
            task.cancel()
        await asyncio.wait(going, timeout=_AGAIN_SECONDS)


async def until(event: asyncio.Event, seconds: float) -> None:
    """Wait for an event, no longer than `seconds`."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await event.wait()


async def to_the_end(work: Coroutine[Any, Any, None]) -> None:
    """Await it like any other, but let it go on where the caller is cancelled (again)."""
    await asyncio.shield(_leaving.start(work))


async def undisturbed(work: Coroutine[Any, Any, _Result]) -> _Result:
    """What `work` brings. A caller that is cancelled meanwhile, however often, goes on only when it has ended."""
    running = asyncio.create_task(work)
    try:
        return await asyncio.shield(running)
    finally:
        while not running.done():
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.wait([running])


async def in_thread(work: Callable[..., _Result], *arguments: Any) -> _Result:
    """What `work` brings, done in a thread. A caller that is cancelled goes on only when it has ended.

    No thread can be cancelled: one that went on with a descriptor that its caller closed would meet the next file or
    socket that got the number.
    """
    return await undisturbed(asyncio.to_thread(work, *arguments))


def at_most(
    count: int, work: Callable[_Arguments, Awaitable[_Result]]
) -> Callable[_Arguments, Coroutine[Any, Any, _Result]]:
    """`work`, of which so many calls run at a time; the others wait for their turn."""
    gate = asyncio.Semaphore(count)

    async def in_turn(*arguments: _Arguments.args, **named: _Arguments.kwargs) -> _Result:
        async with gate:
            return await work(*arguments, **named)

    return in_turn


async def all_of(works: Iterable[Coroutine[Any, Any, _Result]]) -> list[_Result]:
    """What they all bring, in order; the first failure ends the others, and comes out when they have ended."""
    tasks = [asyncio.create_task(work) for work in works]
    try:
        return await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def for_each(items: Sequence[_Item], work: Callable[[_Item], Coroutine[Any, Any, None]], at_once: int) -> None:
    """Do `work` for all of them, so many side by side; the first failure ends it, as in `all_of`."""
    for start in range(0, len(items), at_once):
        await all_of(map(work, items[start : start + at_once]))


async def for_each_of(
    items: AsyncIterable[_Item], work: Callable[[_Item], Coroutine[Any, Any, None]], at_once: int
) -> None:
    """As `for_each`, while they are still being listed: for more than may be held."""
    some = list[_Item]()
    async for item in items:
        some.append(item)
        if len(some) == at_once:
            await all_of(map(work, some))
            some = []
    await all_of(map(work, some))
