"""A clock by which transfers are watched, and nothing else."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any


class Clock:
    """Stands for the loop: its time goes on when it is told to."""

    def __init__(self) -> None:
        self.now = 0.0
        self.timers: dict[object, tuple[float, Callable[[], Any]]] = {}

    def time(self) -> float:
        return self.now

    def call_later(self, seconds: float, call: Callable[..., Any], *args: Any) -> SimpleNamespace:
        return self.call_at(self.now + seconds, call, *args)

    def call_at(self, due: float, call: Callable[..., Any], *args: Any) -> SimpleNamespace:
        assert not self.timers, "one at a time"
        key = object()
        self.timers[key] = due, lambda: call(*args)
        return SimpleNamespace(cancel=lambda: self.timers.pop(key, None))

    def to(self, now: float) -> None:
        """Run what is due until then."""
        while due := min((one for one in self.timers.items() if one[1][0] <= now), default=None):
            key, (self.now, call) = due
            del self.timers[key]
            call()
        self.now = now
