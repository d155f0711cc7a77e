"""Waiting for what can be observed, instead of sleeping and hoping."""

import asyncio
import inspect
import time
from collections.abc import Awaitable, Callable
from pathlib import Path


async def until(condition: Callable[[], bool | Awaitable[bool]], seconds: float = 30) -> None:
    """Returns once the condition holds; it is looked at every 20 ms, every 100 ms where it takes long.

    A look is a request, often: what is waited for would have to share the machine with them.

    Raises:
        TimeoutError: it does not hold after `seconds`.
    """
    began = time.monotonic()
    async with asyncio.timeout(seconds):
        while True:
            holds = condition()
            if await holds if inspect.isawaitable(holds) else holds:
                return
            await asyncio.sleep(min(0.1, max(0.02, (time.monotonic() - began) / 20)))


def is_alive(pid: int) -> bool:
    """Whether a process runs; one that ended and was not waited for does not."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state not in "ZX"


async def until_ended(pid: int) -> None:
    """Returns once this process runs no more; TimeoutError after 40 s."""
    await until(lambda: not is_alive(pid), 40)
