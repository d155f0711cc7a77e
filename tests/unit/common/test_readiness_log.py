"""How often a process says that it is not ready, and what of it."""

import asyncio

import pytest
from structlog.testing import capture_logs

from services.common import readiness_log, server
from services.common.readiness_log import ReadinessLog


class Clock:
    """Stands for the module `time`."""

    now = 1000.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(readiness_log, "time", clock)
    return clock


def test_what_is_missing_is_told_when_it_changes_and_each_minute_with_the_reason_of_then(clock: Clock) -> None:
    log = ReadinessLog()
    with capture_logs() as lines:
        for after, failures in (
            (0, {"Redis": "refused"}),
            (1, {"Redis": "refused"}),
            (1, {"Redis": "wrong password"}),
            (60, {"Redis": "wrong password"}),
            (1, {"S3": "slow", "Redis": "wrong password"}),
            (1, {}),
            (61, {}),
            (1, {"S3": "slow"}),
        ):
            clock.now += after
            log.tell(failures)
    assert [line.get("why", line["event"]) for line in lines] == [
        "Redis: refused",
        "Redis: wrong password",
        "S3: slow; Redis: wrong password",
        "ready",
        "S3: slow",
    ]


async def test_a_check_that_hangs_has_failed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "_CHECK_SECONDS", 0.01)

    async def hang() -> None:
        await asyncio.Event().wait()

    assert await server._failure(hang) == "no answer within 0.01 s"
