"""A lease in Redis: one holder at a time, for as long as it renews, whatever dies."""

from __future__ import annotations

import uuid

import redis.asyncio as redis

from services.common.redis_client import redis_errors

_IF_MINE = "if redis.call('GET', KEYS[1]) == ARGV[1] then return redis.call({}) end return 0"
_RENEW = _IF_MINE.format("'PEXPIRE', KEYS[1], ARGV[2]")
_RELEASE = _IF_MINE.format("'DEL', KEYS[1]")


class Lease:
    """A named lease; take it, do a bounded piece of work, release it. Not re-entrant. Raises STORE_UNAVAILABLE."""

    def __init__(self, client: redis.Redis, name: str, seconds: float) -> None:
        self.seconds = seconds
        self._client, self._name, self._ms = client, name, int(seconds * 1000)
        self._token = uuid.uuid4().hex
        self._renew = client.register_script(_RENEW)
        self._release = client.register_script(_RELEASE)

    async def take(self) -> bool:
        """True if nobody else holds it, or this holder still does."""
        with redis_errors():
            if await self._client.set(self._name, self._token, nx=True, px=self._ms):
                return True
            return bool(await self._renew(keys=[self._name], args=[self._token, self._ms]))

    async def release(self) -> None:
        """Give it back; does nothing if it is somebody else's by now."""
        with redis_errors():
            await self._release(keys=[self._name], args=[self._token])
