"""What clients can do with jobs, whatever transport they come by; every call is judged for its user."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator, Mapping
from typing import Any

from services.common import tasks
from services.common.caller import SYSTEM_USER, may_change
from services.common.error_catalog import ErrorReason
from services.common.errors import ReelwayError, invalid_field
from services.common.page_token import decode_place, encode_place
from services.common.request_limits import IDEMPOTENCY_KEY_LENGTH
from services.common.uuids import is_uuid
from services.ffmpeg.commands import Commands
from services.ffmpeg.job import Job, NewJob
from services.ffmpeg.job_state import JobKind, JobState, Priority
from services.ffmpeg.plan import Plan
from services.ffmpeg.queue_events import QueueEvents
from services.ffmpeg.redis_job_store import Cancelled, QueueStats, RedisJobStore

# A watcher gets a message so often, changed or not: it sees that we live, and we that it does. The API promises one
# every 15 s, in which it has to be made and to arrive.
_WATCH_SECONDS = 10.0
# A flood of changes reaches a watcher at this pace.
_WATCH_PAUSE_SECONDS = 0.2

_PAGE = "t1"


def token_behind(job: Job) -> str:
    """A token for the page of a user's jobs that begins behind this one."""
    return encode_place(_PAGE, job.created_ms, job.id)


class Jobs:
    """Raises ReelwayError STORE_UNAVAILABLE from every method while Redis is away."""

    def __init__(self, store: RedisJobStore, events: QueueEvents, commands: Commands) -> None:
        self._store, self._events, self._commands = store, events, commands

    def plan(self, spec: Mapping[str, Any]) -> Plan:
        """What a command would run; raises COMMAND_REFUSED, INPUT_REFUSED."""
        return self._commands.plan(spec)

    async def register(
        self,
        owner: str,
        kind: JobKind,
        spec: Mapping[str, Any],
        *,
        request_id: str = "",
        priority: Priority = Priority.NORMAL,
        retry_of: str = "",
        share: str | None = None,
    ) -> Job:
        """The job, durable and queued; the first one where the owner used the request_id before.

        Raises TOO_MANY_REQUESTS; INVALID_REQUEST when the request_id stands for other work; what `Commands` raises;
        UNAUTHENTICATED for work on videos where the system is not the owner: workers do that in the system's name,
        whatever video it is.
        """
        if kind is JobKind.COMMAND:
            if priority is Priority.INTERACTIVE:
                raise invalid_field("priority", "a command cannot be interactive")
            self._commands.require_runnable(spec)
        elif owner != SYSTEM_USER:
            raise ReelwayError(ErrorReason.UNAUTHENTICATED)
        if len(request_id) > IDEMPOTENCY_KEY_LENGTH:
            raise invalid_field("request_id", f"at most {IDEMPOTENCY_KEY_LENGTH} characters")
        new = NewJob(
            id=str(uuid.uuid4()),
            kind=kind,
            owner=owner,
            spec=spec,
            priority=priority,
            idempotency_key=request_id,
            retry_of=retry_of,
            share=share,
        )
        job, created = await self._store.register(new)
        if not created and (job.kind, job.spec, job.retry_of) != (kind, spec, retry_of):
            raise invalid_field("request_id", "was used for another task")
        return job

    async def get(self, user: str, job_id: str) -> Job:
        """The job, if the user owns it or nobody does; else TASK_NOT_FOUND."""
        job = await self._store.get(job_id) if is_uuid(job_id) else None
        if job is None or not may_change(job.owner, user):
            raise ReelwayError(ErrorReason.TASK_NOT_FOUND)
        return job

    async def page(self, user: str, size: int, token: str) -> tuple[list[Job], str]:
        """The user's own jobs, newest first, and the token of the next page; nobody owns nothing.

        Raises INVALID_PAGE_TOKEN, INVALID_REQUEST (size beyond 100).
        """
        if not 0 <= size <= 100:
            raise invalid_field("page_size", "must be 1 to 100")
        before = decode_place(_PAGE, token) if token else None
        if not user:
            return [], ""
        size = size or 20
        jobs = await self._store.list_owned(user, size + 1, before)
        more = len(jobs) > size
        jobs = jobs[:size]
        return jobs, token_behind(jobs[-1]) if more else ""

    async def cancel(self, user: str, job_id: str) -> Job:
        """The job after the cancel; TASK_FINISHED when it has ended already."""
        await self.get(user, job_id)
        answer = await self._store.cancel(job_id)
        if answer is Cancelled.FINISHED:
            raise ReelwayError(ErrorReason.TASK_FINISHED)
        return await self.get(user, job_id)

    async def retry(self, user: str, job_id: str, request_id: str) -> Job:
        """A new job with the old one's work, judged anew; TASK_NOT_RETRYABLE unless that failed or was cancelled."""
        job = await self.get(user, job_id)
        if job.state not in {JobState.FAILED, JobState.CANCELLED}:
            raise ReelwayError(ErrorReason.TASK_NOT_RETRYABLE)
        return await self.register(
            job.owner, job.kind, job.spec, request_id=request_id, priority=job.priority, retry_of=job.id
        )

    async def watch(self, user: str, job_id: str) -> AsyncIterator[Job]:
        """The job now and after each change, until it has ended.

        Raises SERVICE_UNAVAILABLE when the process drains: ask another one.
        """
        with self._events.watch(job_id) as changed:
            while True:
                changed.clear()
                job = await self.get(user, job_id)
                yield job
                if job.state.finished:
                    return
                if self._events.closed:
                    raise ReelwayError(ErrorReason.SERVICE_UNAVAILABLE)
                await asyncio.sleep(_WATCH_PAUSE_SECONDS)
                await tasks.until(changed, _WATCH_SECONDS - _WATCH_PAUSE_SECONDS)

    async def stats(self) -> QueueStats:
        """Counts of the queue."""
        return await self._store.stats()
