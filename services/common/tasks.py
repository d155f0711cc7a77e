"""Ending tasks that talk to Redis."""

from __future__ import annotations

import asyncio

_AGAIN_SECONDS = 0.5


async def end(*tasks: asyncio.Task[object]) -> None:
    """Cancel tasks and wait for their end; what they raised is theirs to tell.

    Cancelled again while they go on: redis-py (8.1.0) now and then loses a cancellation that meets one of its calls.
    """
    while going := [task for task in tasks if not task.done()]:
        for task in going:
            task.cancel()
        await asyncio.wait(going, timeout=_AGAIN_SECONDS)
