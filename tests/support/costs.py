"""What a request may cost the process that answers it."""

import asyncio
import contextlib
import tracemalloc
from collections.abc import AsyncIterator, Iterator


@contextlib.contextmanager
def at_most(size: int) -> Iterator[None]:
    """Fails unless less memory than `size` bytes is taken meanwhile."""
    tracemalloc.start()
    try:
        yield
        assert tracemalloc.get_traced_memory()[1] < size
    finally:
        tracemalloc.stop()


@contextlib.asynccontextmanager
async def others_run() -> AsyncIterator[None]:
    """Fails if other tasks wait for their turn for a quarter of the time that it lasts."""
    clock = asyncio.get_running_loop().time
    longest = 0.0

    async def others() -> None:
        nonlocal longest
        last = clock()
        while True:
            await asyncio.sleep(0)
            longest, last = max(longest, clock() - last), clock()

    task = asyncio.create_task(others())
    try:
        began = clock()
        yield
        assert longest < (clock() - began) / 4
    finally:
        task.cancel()
