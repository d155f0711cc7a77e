"""Leases on a real Redis."""

import asyncio
import gc
from collections.abc import AsyncIterator

import pytest
import redis as blocking_redis
import redis.asyncio as redis
from redis.asyncio.client import Pipeline
from structlog.testing import capture_logs

from services.common.error_catalog import ErrorReason
from services.common.errors import ReelwayError
from services.common.lease import Lease, LeaseLost
from tests.support.journal_client import refusal
from tests.support.waiting import until


@pytest.fixture
async def client(clean_redis: str) -> AsyncIterator[redis.Redis]:
    async with redis.Redis.from_url(clean_redis) as connected:
        yield connected


async def test_one_holder_at_a_time(client: redis.Redis) -> None:
    mine, yours = Lease(client, "work", 30), Lease(client, "work", 30)
    assert await mine.take()
    assert not await yours.take()
    assert await mine.take(), "who holds it renews it"
    await mine.release()
    assert await yours.take()
    assert not await mine.take()


async def test_only_the_holder_gives_it_back(client: redis.Redis) -> None:
    mine, yours = Lease(client, "work", 30), Lease(client, "work", 30)
    assert await mine.take()
    await yours.release()
    assert not await yours.take()


async def test_a_dead_holder_s_lease_runs_out(client: redis.Redis) -> None:
    dead, heir = Lease(client, "work", 0.1), Lease(client, "work", 30)
    assert await dead.take()
    await until(heir.take)
    await dead.release()
    assert not await dead.take()
    ttl = await client.pttl("work")
    assert 0 < ttl <= 30_000


async def test_taking_again_makes_it_last_longer(client: redis.Redis) -> None:
    lease = Lease(client, "work", 30)
    assert await lease.take()
    await client.pexpire("work", 50)
    assert await lease.take()
    assert 20_000 < await client.pttl("work") <= 30_000


async def test_redis_away_is_a_store_that_is_away_at_every_step() -> None:
    async with redis.Redis.from_url("redis://127.0.0.1:1") as away:
        lease = Lease(away, "work", 30)
        for step in (lease.take(), lease._renew(), lease.guard(lambda _: None), lease.release()):
            assert await refusal(step) is ErrorReason.STORE_UNAVAILABLE


async def test_leases_of_different_names_do_not_meet(client: redis.Redis) -> None:
    assert await Lease(client, "sweep", 30).take()
    assert await Lease(client, "rebuild", 30).take()


async def test_who_slept_past_a_lease_does_not_get_it_back(client: redis.Redis) -> None:
    """Somebody else may have had it meanwhile, done the work, and given it back."""
    mine, undone = Lease(client, "work", 0.4), list[str]()

    async def work() -> None:
        await client.delete("work")
        try:
            await asyncio.Event().wait()
        finally:
            await client.get("work")
            undone.append("what was begun")

    with capture_logs() as lines:
        async with asyncio.timeout(10):
            with pytest.raises(LeaseLost):
                await mine.hold(work)
    assert undone == ["what was begun"]
    assert lines == [{"event": "lease lost", "lease": "work", "log_level": "warning"}]


async def test_whose_turn_it_is_not_tells_nothing(client: redis.Redis) -> None:
    assert await Lease(client, "work", 30).take()
    mine = Lease(client, "work", 30)
    with capture_logs() as lines, pytest.raises(LeaseLost):
        await mine.hold(asyncio.Event().wait)
    assert lines == []


async def test_work_that_fails_as_its_lease_is_lost_leaves_no_error_line(client: redis.Redis) -> None:
    """Where Redis is away both fail of one fault, and whoever wanted the work hears of the lease."""
    mine, lines, loop = Lease(client, "work", 0.4), list[str](), asyncio.get_running_loop()
    # What earlier tests left is not told to this one.
    gc.collect()
    loop.set_exception_handler(lambda _, told: lines.append(str(told["message"])))

    async def work() -> None:
        await client.delete("work")
        try:
            await asyncio.Event().wait()
        finally:
            raise ReelwayError(ErrorReason.STORE_UNAVAILABLE)

    async with asyncio.timeout(10):
        with pytest.raises(LeaseLost):
            await mine.hold(work)
    gc.collect()
    loop.set_exception_handler(None)
    assert lines == []


async def test_what_is_guarded_is_done_by_the_holder_alone(client: redis.Redis) -> None:
    mine, yours = Lease(client, "work", 30), Lease(client, "work", 30)
    assert await mine.take()
    with pytest.raises(LeaseLost):
        await yours.guard(lambda pipe: pipe.set("made", "by you"))
    assert await mine.guard(lambda pipe: pipe.set("made", "by me")) == [True]
    await mine.release()
    with pytest.raises(LeaseLost):
        await mine.guard(lambda pipe: pipe.delete("made"))
    assert await client.get("made") == b"by me"


@pytest.mark.parametrize("lost", [False, True])
async def test_what_is_guarded_is_one_step_with_the_look_at_the_lease(
    client: redis.Redis, clean_redis: str, lost: bool
) -> None:
    lease, tries = Lease(client, "work", 30), 0
    assert await lease.take()

    def commands(pipe: Pipeline) -> None:
        """Between the look and the step it runs out, or is renewed."""
        nonlocal tries
        tries += 1
        with blocking_redis.Redis.from_url(clean_redis) as other:
            if lost:
                other.delete("work")
            elif tries == 1:
                other.pexpire("work", 60_000)
        pipe.set("made", tries)

    if lost:
        with pytest.raises(LeaseLost):
            await lease.guard(commands)
        assert await client.get("made") is None
    else:
        await lease.guard(commands)
        assert await client.get("made") == b"2"
