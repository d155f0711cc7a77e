"""How many signed uploads of a user have not arrived: each is a record, whether or not it ever does.

Redis keys:

    {signing}:open:<owner>   sorted set: video id -> when it was signed
"""

from __future__ import annotations

import redis.asyncio as redis

from services.common.clock import Clock
from services.common.error_catalog import ErrorReason
from services.common.errors import ReelwayError
from services.common.redis_client import redis_errors


def _key(owner: str) -> str:
    return f"{{signing}}:open:{owner}"


class Signatures:
    """Forgets by itself what the catalog has given up; raises STORE_UNAVAILABLE."""

    def __init__(self, client: redis.Redis, clock: Clock, *, per_owner: int, seconds: float) -> None:
        self._redis, self._clock, self._per_owner, self._seconds = client, clock, per_owner, seconds

    async def enter(self, video_id: str, owner: str) -> None:
        """One more, which is to leave again where this fails; TOO_MANY_UPLOADS."""
        key, now = _key(owner), self._clock.seconds()
        with redis_errors():
            pipe = self._redis.pipeline()
            pipe.zremrangebyscore(key, "-inf", now - self._seconds)
            pipe.zadd(key, {video_id: now})
            pipe.expire(key, int(self._seconds) + 1)
            pipe.zcard(key)
            *_, count = await pipe.execute()
        if count > self._per_owner:
            why = "Too many uploads that you signed for have not arrived"
            raise ReelwayError(ErrorReason.TOO_MANY_UPLOADS, why, metadata={"most": str(self._per_owner)})

    async def leave(self, video_id: str, owner: str) -> None:
        """It has arrived, or will not."""
        with redis_errors():
            await self._redis.zrem(_key(owner), video_id)
