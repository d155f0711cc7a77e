"""The client of Redis against a real one."""

import asyncio

from services.common.redis_client import connect, redis_errors
from services.common.settings import RedisSettings


async def test_a_cancellation_is_never_lost(clean_redis: str) -> None:
    """Whenever it comes: an upload that goes on behind its client's back would become a video."""
    client = connect(RedisSettings(redis_url=clean_redis))

    async def call() -> None:
        with redis_errors():
            await client.set("key", "value")

    try:
        await call()
        steps = ended = 0
        while not ended:
            calling = asyncio.create_task(call())
            for _ in range(steps):
                await asyncio.sleep(0)
            if calling.done():
                ended = steps
            calling.cancel()
            await asyncio.wait([calling])
            assert ended or calling.cancelled(), f"lost where it came {steps} steps after the call began"
            steps += 1
        assert ended > 2
    finally:
        await client.aclose()
