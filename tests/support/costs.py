"""What a request may cost the process that answers it."""

import asyncio
import contextlib
import time
import tracemalloc
from collections.abc import Awaitable, Callable, Iterator
from typing import TypeVar

T = TypeVar("T")


@contextlib.contextmanager
def at_most(size: int) -> Iterator[None]:
    """Fails unless less memory than `size` bytes is taken meanwhile."""
    tracemalloc.start()
    try:
        yield
        assert tracemalloc.get_traced_memory()[1] < size
    finally:
        tracemalloc.stop()


async def others_run(work: Callable[[], Awaitable[T]]) -> T:
    """What `work` answers; fails if other tasks wait for their turn for a quarter of the time that it takes.

    Time is what the process has of the processors: whatever else the machine does makes everybody wait. It has three
    tries, for the garbage collector does, too.
    """
    shares = []
    for _ in range(3):
        answer, share = await _longest_wait(work)
        if share < 1 / 4:
            return answer
        shares.append(share)
    raise AssertionError(f"others waited for these shares of the time: {shares}")


async def _longest_wait(work: Callable[[], Awaitable[T]]) -> tuple[T, float]:
    clock = time.process_time
    longest = 0.0

    async def others() -> None:
        nonlocal longest
        last = clock()
        while True:
            await asyncio.sleep(0)
            longest, last = max(longest, clock() - last), clock()

    task = asyncio.create_task(others())
    try:
        # It counts from its first turn on, and what came since its last one in its next.
        await asyncio.sleep(0)
        began = clock()
        answer = await work()
        seconds = clock() - began
        await asyncio.sleep(0)
        return answer, longest / seconds
    finally:
        task.cancel()
