"""Bounded retries."""

import asyncio

import pytest

from services.common.backoff import Backoff, retry

QUICK = Backoff(attempts=4, first_seconds=0, longest_seconds=0)


class Flaky:
    """Fails some times, then answers."""

    def __init__(self, failures: int) -> None:
        self.failures, self.calls = failures, 0

    async def __call__(self) -> str:
        self.calls += 1
        if self.calls <= self.failures:
            raise OSError(f"failure {self.calls}")
        return "done"


async def test_a_call_is_tried_again_until_it_succeeds() -> None:
    call = Flaky(3)
    assert await retry(call, lambda error: isinstance(error, OSError), QUICK) == "done"
    assert call.calls == 4


async def test_tries_are_bounded_and_the_last_error_comes_out() -> None:
    call = Flaky(10)
    with pytest.raises(OSError, match="failure 4"):
        await retry(call, lambda _: True, QUICK)
    assert call.calls == 4


async def test_what_is_not_worth_it_is_not_tried_again() -> None:
    call = Flaky(10)
    with pytest.raises(OSError, match="failure 1"):
        await retry(call, lambda error: isinstance(error, ValueError), QUICK)


async def test_between_two_tries_there_is_a_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    pauses: list[float] = []

    async def sleep(seconds: float) -> None:
        pauses.append(seconds)

    monkeypatch.setattr(asyncio, "sleep", sleep)
    await retry(Flaky(3), lambda _: True, Backoff(first_seconds=1))
    assert [step / 2 <= pause <= step for step, pause in zip((1, 2, 2), pauses, strict=True)] == [True] * 3


def test_pauses_double_up_to_a_limit_and_are_spread() -> None:
    backoff = Backoff(first_seconds=0.1, longest_seconds=2.0)
    for attempt, step in enumerate((0.1, 0.2, 0.4, 0.8, 1.6, 2.0, 2.0), 1):
        pauses = {backoff.pause(attempt) for _ in range(50)}
        assert all(step / 2 <= pause <= step for pause in pauses)
        assert len(pauses) > 1


def test_a_pause_has_its_length_however_many_tries_there_were() -> None:
    assert Backoff(longest_seconds=2.0).pause(10_000) <= 2.0
