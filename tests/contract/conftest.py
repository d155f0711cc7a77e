"""What the stores' tests share."""

from collections.abc import AsyncIterator

import pytest
import redis.asyncio


@pytest.fixture
async def client(clean_redis: str) -> AsyncIterator[redis.asyncio.Redis]:
    async with redis.asyncio.Redis.from_url(clean_redis, decode_responses=True) as found:
        yield found
