"""One timer watches all steps of a transfer: none that lasts too long is missed, and no other one is broken off."""

from __future__ import annotations

from unittest.mock import Mock

from gateway.stall_watch import StallWatch
from tests.unit.gateway.stall_rig import Clock

LIMIT = 10.0


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
