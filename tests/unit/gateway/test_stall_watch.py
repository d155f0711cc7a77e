"""One timer watches all steps of a transfer: none that lasts too long is missed, and no other one is broken off."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any
from unittest.mock import Mock

import pytest

from gateway.stall_watch import StallWatch

LIMIT = 10.0


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


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    made = Clock()
    monkeypatch.setattr("gateway.stall_watch.asyncio", SimpleNamespace(get_running_loop=lambda: made))
    return made


def test_each_step_has_its_time_from_its_own_beginning(clock: Clock) -> None:
    stalled = Mock()
    watch = StallWatch(LIMIT, stalled)
    for begins, ends in ((0, 9), (9, 12), (13, 22), (22, 23)):
        clock.to(begins)
        watch.begin()
        clock.to(ends)
        watch.end()
    clock.to(25)
    watch.begin()
    clock.to(34.9)
    stalled.assert_not_called()
    for seconds in (35, 100):
        clock.to(seconds)
        stalled.assert_called_once()
    watch.begin()
    clock.to(110)
    assert stalled.call_count == 2


def test_nothing_lasts_where_no_step_is_under_way(clock: Clock) -> None:
    stalled = Mock()
    watch = StallWatch(LIMIT, stalled)
    watch.begin()
    watch.end()
    clock.to(LIMIT)
    assert not clock.timers
    watch.begin()
    watch.close()
    assert not clock.timers
    clock.to(5 * LIMIT)
    stalled.assert_not_called()


def test_a_watch_that_nobody_closed_breaks_nothing_off(clock: Clock) -> None:
    stalled = Mock()
    StallWatch(LIMIT, stalled).begin()
    clock.to(LIMIT)
    stalled.assert_not_called()
    assert not clock.timers
