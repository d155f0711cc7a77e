"""A lease in Redis: one holder at a time, for as long as it renews, whatever dies."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

import redis.asyncio as redis

from services.common import tasks
from services.common.redis_client import redis_errors

_IF_MINE = "if redis.call('GET', KEYS[1]) == ARGV[1] then return redis.call({}) end return 0"
_RENEW = _IF_MINE.format("'PEXPIRE', KEYS[1], ARGV[2]")
_RELEASE = _IF_MINE.format("'DEL', KEYS[1]")

_T = TypeVar("_T")


class LeaseLost(Exception):
    """Somebody else holds the lease, and goes on with the work."""


class Lease:
    """A named lease; take it, work, release it. Not re-entrant. Raises STORE_UNAVAILABLE.

    Work that may outlast the lease is done inside `hold`.
    """

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

    async def hold(self, work: Callable[[], Coroutine[Any, Any, _T]]) -> _T:
        """What `work` answers; the lease is taken before it and renewed until it ends.

        Raises:
            LeaseLost: the lease is somebody else's; work that had begun is cancelled and has ended.
        """
        if not await self.take():
            raise LeaseLost
        working = asyncio.create_task(work())
        try:
            while not (await asyncio.wait([working], timeout=self.seconds / 4))[0]:
                if not await self.take():
                    raise LeaseLost
            return working.result()
        finally:
            await tasks.end(working)

    async def release(self) -> None:
        """Give it back; does nothing if it is somebody else's by now."""
        with redis_errors():
            await self._release(keys=[self._name], args=[self._token])
