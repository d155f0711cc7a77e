"""What every process measures of itself."""

import asyncio
import time

import pytest
from prometheus_client import REGISTRY

from services.common import metrics, tasks
from tests.support.waiting import until


async def test_a_loop_that_is_kept_busy_is_seen_to_be_late(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(metrics, "_LAG_LOOK_SECONDS", 0.05)

    def late() -> float:
        return REGISTRY.get_sample_value("reelway_loop_lag_seconds_sum") or 0

    before, watching = late(), asyncio.create_task(metrics.watch_loop())
    await asyncio.sleep(0)
    time.sleep(0.35)  # noqa: ASYNC251 - this is what it is about
    await until(lambda: late() - before >= 0.3)
    await tasks.end(watching)
