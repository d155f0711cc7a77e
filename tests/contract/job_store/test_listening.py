"""Whoever waits for the queue hears of every change, or that it may have missed one."""

import asyncio
import contextlib
from collections.abc import AsyncIterator

import pytest
import redis.asyncio

from services.common import tasks
from services.common.redis_client import connect
from services.common.settings import RedisSettings
from services.ffmpeg.job import Progress
from services.ffmpeg.job_policy import JobPolicy
from services.ffmpeg.redis_job_store import RedisJobStore
from tests.contract.job_store.rig import add, take
from tests.support.waiting import until


@contextlib.asynccontextmanager
async def listening(store: RedisJobStore, *channels: str) -> AsyncIterator[list[tuple[str, str]]]:
    """What is heard, as it grows, from the moment when the subscription stands."""
    heard: list[tuple[str, str]] = []

    async def listen() -> None:
        async for event in store.listen(*channels):
            heard.append(event)  # noqa: PERF401 - seen while it grows

    listener = asyncio.create_task(listen())
    await until(lambda: heard == [("", "")])
    yield heard
    await tasks.end(listener)


async def test_waiters_hear_of_every_change(store: RedisJobStore) -> None:
    async with listening(store, "{ff}:changed", "{ff}:cancel", "{ff}:wake") as heard:
        job_id = await add(store)
        lease = await take(store)
        await store.report(lease, Progress(0.5))
        await store.cancel(job_id)
        await until(lambda: ("{ff}:cancel", job_id) in heard)
        assert ("{ff}:wake", "command") in heard
        assert heard.count(("{ff}:changed", job_id)) == 3
        await store.release(lease)
        again = await add(store)
        await store.release(await take(store))
        await until(lambda: heard.count(("{ff}:changed", again)) == 2)
        assert heard.count(("{ff}:changed", job_id)) == 4, "that it ended"
        assert heard.count(("{ff}:wake", "command")) == 3, "given back, a job need not wait for anybody's next look"


@pytest.fixture
async def of_a_process(clean_redis: str) -> AsyncIterator[RedisJobStore]:
    """A store whose client is one as processes have it, which subscribes anew by itself."""
    async with connect(RedisSettings(redis_url=clean_redis)) as client:
        yield RedisJobStore(client, JobPolicy())


async def test_waiters_are_told_that_they_may_have_missed_something(
    of_a_process: RedisJobStore, client: redis.asyncio.Redis
) -> None:
    """What was published before the client had subscribed anew has reached nobody."""
    async with listening(of_a_process, "{ff}:cancel", "{ff}:wake") as heard:
        assert await client.client_kill_filter(_type="pubsub") == 1
        await until(lambda: heard == [("", ""), ("", "")])


async def test_a_subscription_on_which_nothing_comes_is_kept(
    of_a_process: RedisJobStore, client: redis.asyncio.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("services.ffmpeg.redis_job_store._SILENT_SECONDS", 0.3)

    async def pinged() -> int:
        return int((await client.info("commandstats")).get("cmdstat_ping", {}).get("calls", 0))

    async with listening(of_a_process, "{ff}:cancel", "{ff}:wake") as heard:
        subscribed, before = 1, await pinged()

        async def lasts_over_two() -> bool:
            nonlocal subscribed, before
            now = await pinged()
            if len(heard) > subscribed:
                # A machine that stands still for so long makes any silent.
                subscribed, before = len(heard), now
            return now > before + 1

        await until(lasts_over_two)


async def test_a_subscription_that_is_dead_without_a_word_is_made_anew(
    of_a_process: RedisJobStore, client: redis.asyncio.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As behind a NAT that has forgotten the connection, nothing comes, and nothing tells that nothing will."""
    monkeypatch.setattr("services.ffmpeg.redis_job_store._SILENT_SECONDS", 0.3)
    async with listening(of_a_process, "{ff}:cancel", "{ff}:wake") as heard:
        await client.client_pause(2000, all=True)
        await until(lambda: heard == [("", ""), ("", "")])
