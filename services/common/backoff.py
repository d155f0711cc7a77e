"""Bounded retries with exponential, jittered pauses."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TypeVar

T = TypeVar("T")


@dataclass(frozen=True)
class Backoff:
    """How often and how patiently something is tried again."""

    attempts: int = 4
    """Tries in all, at least 1."""
    first_seconds: float = 0.1
    """Pause before the second try; doubles each time."""
    longest_seconds: float = 2.0
    """No pause is longer."""

    def pause(self, attempt: int) -> float:
        """Seconds to wait after failed try number `attempt` (from 1): between half and the whole of the step."""
        # A higher power does not fit into a float.
        step: float = min(self.longest_seconds, self.first_seconds * 2 ** min(attempt - 1, 1000))
        return step * random.uniform(0.5, 1.0)  # noqa: S311 - jitter, no secret


async def retry(
    call: Callable[[], Awaitable[T]],
    again: Callable[[Exception], bool],
    backoff: Backoff = Backoff(),
) -> T:
    """The result of `call`, tried again while `again(error)` holds; the last error is raised."""
    attempt = 1
    while True:
        try:
            return await call()
        except Exception as error:
            if attempt >= backoff.attempts or not again(error):
                raise
        await asyncio.sleep(backoff.pause(attempt))
        attempt += 1
