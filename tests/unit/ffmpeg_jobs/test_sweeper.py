from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import timedelta
from typing import Any, cast

from services.common.clock import SystemClock
from services.common.lease import Lease
from services.common.tasks import end
from services.ffmpeg.sweeper import Sweeper


class Broken:
    """A store of jobs whose answers nobody expected, and everybody's lease."""

    def __init__(self) -> None:
        self.asked = 0
        self.again = asyncio.Event()

    async def hold(self, work: Callable[[], Awaitable[object]]) -> None:
        await work()

    async def forget_due(self) -> int:
        return 0

    def debris(self) -> AsyncIterator[str]:
        self.asked += 1
        if self.asked > 1:
            self.again.set()
        raise KeyError("nobody thought of that")


async def test_a_sweep_that_breaks_is_not_the_last_one() -> None:
    broken: Any = Broken()
    sweeper = Sweeper(broken, broken, cast(Lease, broken), SystemClock(), timedelta(days=1))
    running = asyncio.create_task(sweeper.run(0.01))
    waiting = asyncio.create_task(broken.again.wait())
    done, _ = await asyncio.wait((running, waiting), timeout=10, return_when=asyncio.FIRST_COMPLETED)
    assert waiting in done, running.exception()
    await end(running)
