"""One timer for a whole transfer, where a timer for each chunk would cost more than the chunk."""

from __future__ import annotations

import asyncio
import weakref
from collections.abc import Callable


class StallWatch:
    """Calls `on_stall` once when a step between `begin` and `end` lasts `limit` seconds or more.

    While no step is under way the timer runs out by itself, and it keeps nothing alive: a watch that nobody closes
    holds nothing.

    Args:
        limit: seconds a step may last.
        on_stall: breaks the step off.
    """

    def __init__(self, limit: float, on_stall: Callable[[], None]) -> None:
        self._limit = limit
        self._on_stall = on_stall
        self._loop = asyncio.get_running_loop()
        self._since: float | None = None
        self._timer: asyncio.TimerHandle | None = None

    def begin(self) -> None:
        """A step begins."""
        self._since = self._loop.time()
        if self._timer is None:
            self._timer = self._loop.call_later(self._limit, _look, weakref.ref(self))

    def end(self) -> None:
        """The step is done."""
        self._since = None

    def close(self) -> None:
        """No more steps."""
        if self._timer is not None:
            self._timer.cancel()

    def _look(self) -> None:
        self._timer = None
        if self._since is None:
            return
        due = self._since + self._limit
        if self._loop.time() >= due:
            self._on_stall()
        else:
            self._timer = self._loop.call_at(due, _look, weakref.ref(self))


def _look(watch: weakref.ref[StallWatch]) -> None:
    if (found := watch()) is not None:
        found._look()
