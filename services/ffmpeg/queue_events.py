"""Tells watchers in this process that a job has changed: one Redis subscription for all of them."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterator

from services.ffmpeg.redis_job_store import CHANGED, RedisJobStore


class QueueEvents:
    """Run `run` in the background; `watch` jobs while it runs."""

    def __init__(self, store: RedisJobStore) -> None:
        self._store = store
        self._watchers: dict[str, set[asyncio.Event]] = {}
        self.closed = False
        """Nobody shall wait any more: the process wants to end."""

    async def run(self) -> None:
        """Listen for ever; comes back within 2 s when Redis does."""
        async for channel, job_id in self._store.listen(CHANGED):
            # A new subscription may have missed anything: everybody looks.
            waiting = self._watchers.get(job_id, set()) if channel else set().union(*self._watchers.values())
            for changed in waiting:
                changed.set()

    def close(self) -> None:
        """Wake every watcher for the last time."""
        self.closed = True
        for changed in set().union(*self._watchers.values()):
            changed.set()

    @contextlib.contextmanager
    def watch(self, job_id: str) -> Iterator[asyncio.Event]:
        """An event that is set whenever the job may have changed; clear it before you look."""
        changed = asyncio.Event()
        watchers = self._watchers.setdefault(job_id, set())
        watchers.add(changed)
        try:
            yield changed
        finally:
            watchers.discard(changed)
            if not watchers:
                self._watchers.pop(job_id, None)
