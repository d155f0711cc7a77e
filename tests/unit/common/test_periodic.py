from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, cast

import pytest
from prometheus_client import REGISTRY
from structlog.testing import capture_logs

from services.common.error_catalog import ErrorReason
from services.common.errors import ReelwayError
from services.common.lease import Lease, LeaseLost
from services.common.periodic import failures_logged, periodically
from services.common.tasks import end


class Turns:
    """A lease that is had every second time, but not while Redis is away."""

    def __init__(self) -> None:
        self.asked, self.held = 0, False

    async def hold(self, work: Callable[[], Coroutine[Any, Any, None]]) -> None:
        self.asked += 1
        if self.asked == 1:
            raise ReelwayError(ErrorReason.STORE_UNAVAILABLE)
        if self.asked % 2:
            raise LeaseLost
        self.held = True
        await work()
        self.held = False


def put_off(what: str) -> float | None:
    return REGISTRY.get_sample_value("reelway_put_off_total", {"what": what})


@pytest.mark.parametrize("fault", [ReelwayError(ErrorReason.STORE_UNAVAILABLE), RuntimeError("nobody foresaw this")])
def test_what_fails_is_counted(fault: Exception) -> None:
    def look() -> None:
        raise fault

    before = put_off("look") or 0
    with failures_logged("look"):
        look()
    assert put_off("look") == before + 1


async def test_work_is_done_whenever_the_lease_is_had_and_renewed_until_it_ends() -> None:
    turns, worked, enough = Turns(), list[int](), asyncio.Event()

    async def work() -> None:
        assert turns.held
        worked.append(turns.asked)
        if len(worked) == 3:
            enough.set()

    with capture_logs() as lines:
        running = asyncio.create_task(periodically("work", work, cast(Lease, turns), 0.001, 0))
        async with asyncio.timeout(30):
            await enough.wait()
        await end(running)
    assert worked == [2, 4, 6]
    assert put_off("work") == 1
    assert [line["event"] for line in lines] == ["put off"], "what another replica does is no failure"
