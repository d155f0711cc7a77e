"""Leases on a real Redis."""

from collections.abc import AsyncIterator

import pytest
import redis.asyncio as redis

from services.common.lease import Lease
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
    assert await client.pttl("work") > 20_000


async def test_leases_of_different_names_do_not_meet(client: redis.Redis) -> None:
    assert await Lease(client, "sweep", 30).take()
    assert await Lease(client, "rebuild", 30).take()
