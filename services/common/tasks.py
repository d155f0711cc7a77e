"""Ending tasks."""

from __future__ import annotations

import asyncio

_AGAIN_SECONDS = 0.5


async def end(*tasks: asyncio.Task[object]) -> None:
    """Cancel tasks and wait for their end; what they raised is theirs to tell.

    Cancelled again while they go on: a library that uses asyncio.wait_for loses, in Python 3.11, a cancellation that
    comes as its work ends.
    """
    while going := [task for task in tasks if not task.done()]:
        for task in going:
            task.cancel()
        await asyncio.wait(going, timeout=_AGAIN_SECONDS)
