"""What a kind of job brings: a handler, and what it has in hand."""

from __future__ import annotations

import contextlib
from collections.abc import Awaitable, Callable, Iterator, Mapping
from typing import Any, TypeAlias

from services.common.error_catalog import ErrorReason
from services.common.errors import ReelwayError
from services.common.task_failure import TaskFailure
from services.ffmpeg.job import JobFault, JobLease, Progress
from services.ffmpeg.job_state import JobKind
from services.ffmpeg.redis_job_store import Holding, RedisJobStore
from services.ffmpeg.work_folder import WorkFolder


class NoLongerHeld(Exception):
    """This attempt may write nothing more: its lease is lost, or its owner cancelled the job."""

    def __init__(self, holding: Holding) -> None:
        super().__init__(holding)
        self.holding = holding


class JobContext:
    """What a handler has in hand.

    A handler is cancelled (asyncio) when its lease is lost, when its job is cancelled and when a drain runs out
    of time: it must then kill what it started, and raise on.
    """

    def __init__(
        self, lease: JobLease, store: RedisJobStore, folder: WorkFolder, show: Callable[[Progress], None]
    ) -> None:
        self._lease, self._store = lease, store
        # As it was when this attempt claimed it.
        self.job = lease.job
        # Private, with empty `in`, `out` and `tmp`; removed when the handler is done.
        self.folder = folder
        # Tells how far it is; as often as you like, written once a second.
        self.show = show

    async def begin_upload(self, upload_id: str, key: str) -> None:
        """Note a multipart upload before its first part (see outputs.py); raises NoLongerHeld."""
        self._check(await self._store.begin_upload(self._lease, upload_id, key))

    async def earlier_uploads(self) -> Mapping[str, str]:
        """Upload id -> key of what earlier attempts began."""
        return await self._store.uploads(self.job.id)

    async def still_held(self) -> None:
        """Raises NoLongerHeld unless this attempt may write: ask before what can't be undone."""
        self._check(await self._store.renew_one(self._lease))

    def _check(self, holding: Holding) -> None:
        if holding is not Holding.HELD:
            raise NoLongerHeld(holding)


@contextlib.contextmanager
def may_go_away(what: str) -> Iterator[None]:
    """Where an object that is read in here is no longer there: JobFault INPUT_UNAVAILABLE, tried again."""
    try:
        yield
    except ReelwayError as error:
        if error.reason is not ErrorReason.VIDEO_NOT_FOUND:
            raise
        raise JobFault(TaskFailure.INPUT_UNAVAILABLE, f"{what} went away while it was read", may_pass=True) from None


# Returns the job's result, JSON types. Raises JobFault; a ReelwayError that passes and a full disk are taken for an
# Outage, anything else for an internal error, which is tried again.
Handler: TypeAlias = Callable[[JobContext], Awaitable[Mapping[str, Any]]]
Handlers: TypeAlias = Mapping[JobKind, Handler]
