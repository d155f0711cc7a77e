"""A lease in Redis: one holder at a time, for as long as it renews, whatever dies."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

import redis.asyncio as redis
from redis.asyncio.client import Pipeline

from services.common import logs, tasks
from services.common.redis_client import redis_errors

log = logs.get_logger(__name__)

_IF_MINE = "if redis.call('GET', KEYS[1]) == ARGV[1] then return redis.call({}) end return 0"
_RENEW = _IF_MINE.format("'PEXPIRE', KEYS[1], ARGV[2]")
_RELEASE = _IF_MINE.format("'DEL', KEYS[1]")
_LOOK_AGAIN_SECONDS = 0.05

_T = TypeVar("_T")


class LeaseLost(Exception):
    """It ran out: somebody else goes on with the work, or has done it."""


class Lease:
    """A named lease; take it, work, release it. Not re-entrant. Raises STORE_UNAVAILABLE.

    Work that may outlast the lease is done inside `hold`.
    """

    def __init__(self, client: redis.Redis, name: str, seconds: float) -> None:
        self.seconds = seconds
        self._client, self._name, self._ms = client, name, int(seconds * 1000)
        self._token = uuid.uuid4().hex
        self._renew_script = client.register_script(_RENEW)
        self._release_script = client.register_script(_RELEASE)

    async def take(self) -> bool:
        """True if nobody else holds it, or this holder still does."""
        with redis_errors():
            if await self._client.set(self._name, self._token, nx=True, px=self._ms):
                return True
        return await self._renew()

    async def _renew(self) -> bool:
        """False if it ran out. It is not taken again: another holder may have done the work meanwhile."""
        with redis_errors():
            return bool(await self._renew_script(keys=[self._name], args=[self._token, self._ms]))

    async def hold(self, work: Callable[[], Coroutine[Any, Any, _T]]) -> _T:
        """What `work` answers; the lease is taken before it and renewed until it ends.

        Raises:
            LeaseLost: the lease is somebody else's, or was; work that had begun is cancelled and has ended.
        """
        if not await self.take():
            raise LeaseLost
        working = asyncio.create_task(work())
        # Where Redis is away the renewal and the work may both fail, and only one failure is raised.
        working.add_done_callback(tasks.look_at)
        try:
            while not (await asyncio.wait([working], timeout=self.seconds / 4))[0]:
                if not await self._renew():
                    log.warning("lease lost", lease=self._name)
                    raise LeaseLost
            return working.result()
        finally:
            await tasks.end(working)

    async def guard(self, commands: Callable[[Pipeline], object]) -> list[Any]:
        """What the commands answer that `commands` queues; done in one step, while this holder has the lease.

        For writes that would harm the next holder: a process that slept wakes up in the middle of its work, and goes
        on for a moment before `hold` stops it.

        Raises:
            LeaseLost: it ran out, and nothing was done.
        """

        async def queue(pipe: Pipeline) -> None:
            if await pipe.get(self._name) not in (self._token, self._token.encode()):
                raise LeaseLost
            pipe.multi()  # type: ignore[no-untyped-call]
            commands(pipe)

        with redis_errors():
            # Watched: where the lease changed after the look nothing is done, and it is looked at again. So it is where
            # the connection was lost, or Redis takes no writes: the client does not tell these from a change.
            answers: list[Any] = await self._client.transaction(queue, self._name, watch_delay=_LOOK_AGAIN_SECONDS)
        return answers

    async def release(self) -> None:
        """Give it back; does nothing if it is somebody else's by now."""
        with redis_errors():
            await self._release_script(keys=[self._name], args=[self._token])
