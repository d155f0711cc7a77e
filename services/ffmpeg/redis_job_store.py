"""The job queue in Redis: every change of a job is one atomic call of the script in lua/.

Keys, all under the hash tag `{ff}` so that a Redis Cluster keeps them on one shard (a second shard is a second
queue). Scores are milliseconds since the epoch by Redis' clock unless said otherwise.

  {ff}:job:ID            hash    the whole job: id kind owner class spec state created started finished due
                                 attempt tries outage lost token worker cancel progress reason error result
                                 retry_of, and for the queue: member tag score idem canceller
  {ff}:ready:KIND        zset    member `NUMBER:ID` -> class * 2^44 + fair tag; who is claimed next
  {ff}:delayed           zset    member -> when a retry is due
  {ff}:parked:OWNER      zset    members whose owner has its quota running; scores as in ready
  {ff}:active            zset    ID -> when its lease ends
  {ff}:unfinished:KIND   zset    ID -> registered; its size is the scaling signal
  {ff}:finished          zset    ID -> when the record may go
  {ff}:finished:OWNER    zset    ID -> a number that grows; whose record goes first when an owner has too many
  {ff}:jobs:OWNER        zset    ID -> registered; an owner's list
  {ff}:owner:OWNER       hash    queued, running: the owner's counts
  {ff}:virtual           hash    KIND:CLASS -> the queue's own time, for fairness
  {ff}:turns:KIND:CLASS  zset    share -> fair tag of its latest job; of those that the queue's own time has not reached
  {ff}:uploads:ID        hash    multipart upload id -> object key, begun and not committed
  {ff}:debris            zset    ID -> since when; finished without success, uploads or outputs left to remove
  {ff}:idem:LEN:OWNER:KEY string  ID, for as long as its record is kept
  {ff}:workers           zset    worker -> when it counts as gone
  {ff}:worker:WORKER     hash    its last claim, so that a repeated claim answers the same
  {ff}:sweep             string  the front that sweeps, for as long as its lease lasts
  {ff}:sequence, {ff}:token       counters: registrations and ends; claims
  {ff}:wake, {ff}:cancel, {ff}:changed   channels: a kind has work, a job shall stop, a job is different
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import enum
import functools
import json
import random
import uuid
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import redis.asyncio as redis
from redis.asyncio.client import PubSub

from services.common.caller import SYSTEM_USER
from services.common.error_catalog import ErrorReason
from services.common.errors import ReelwayError
from services.common.redis_client import redis_errors
from services.common.task_failure import TaskFailure
from services.ffmpeg.job import Job, JobFault, JobLease, NewJob, Outage, Progress, decode, encode_spec
from services.ffmpeg.job_policy import JobPolicy
from services.ffmpeg.job_state import TRANSITIONS, AttemptOutcome, JobKind

TAG = "{ff}"
WAKE, CANCEL, CHANGED = f"{TAG}:wake", f"{TAG}:cancel", f"{TAG}:changed"
_LUA = Path(__file__).parent / "lua"
_OPERATION_LUA = "return ops[table.remove(ARGV, 1)](unpack(ARGV))"
_NO_LIMIT = 2**53
_RECONNECT_SECONDS = 2.0
# Redis is asked for a sign of life after so long, and has as long to give it.
_SILENT_SECONDS = 3.0
_POISON_MESSAGE = "The job stopped every worker that ran it; it probably needs too much memory"


class Holding(enum.StrEnum):
    """What the store says to an attempt."""

    HELD = "held"
    # Still the holder, but the owner wants it stopped.
    CANCEL = "cancel"
    # Another attempt has the job, or it is finished: write nothing.
    LOST = "lost"


class Cancelled(enum.StrEnum):
    """What a cancel met."""

    MISSING = "missing"
    FINISHED = "finished"
    # It had not started; it never will.
    CANCELLED = "cancelled"
    # It runs; its worker has been told.
    CANCELLING = "cancelling"


@dataclasses.dataclass(frozen=True)
class KindStats:
    """One kind's share of the queue."""

    ready: int
    unfinished: int
    oldest_ms: int


@dataclasses.dataclass(frozen=True)
class QueueStats:
    """The queue at one moment."""

    kinds: Mapping[JobKind, KindStats]
    delayed: int
    active: int
    workers: int


def _ms(seconds: float) -> int:
    return int(seconds * 1000)


def _mapping(flat: Sequence[str]) -> dict[str, str]:
    """Names and values that a script answered one after another."""
    return dict(zip(flat[::2], flat[1::2], strict=True))


def _constants_lua(policy: JobPolicy) -> str:
    rows = (f"{state}={{{','.join(f'{to}=true' for to in sorted(after))}}}" for state, after in TRANSITIONS.items())
    values = f"{{{','.join(rows)}}}, '{SYSTEM_USER}', {policy.kept_max}, {policy.running_max}"
    return f"local TRANSITIONS, SYSTEM, KEPT_MAX, RUNNING_MAX = {values} "


class RedisJobStore:
    """Jobs in Redis. Every method raises ReelwayError STORE_UNAVAILABLE when Redis can't be asked.

    Every call is safe to repeat, so the client may retry it: a write that was done answers as it did.
    """

    def __init__(self, client: redis.Redis, policy: JobPolicy) -> None:
        self._client = client
        self._policy = policy
        files = [(_LUA / f"{name}.lua").read_text() for name in ("jobs_state", "jobs", "jobs_housekeeping")]
        self._script = client.register_script("".join([_constants_lua(policy), *files, _OPERATION_LUA]))
        self._lease_ms, self._backoff_ms = _ms(policy.lease_seconds), _ms(policy.backoff_seconds)
        self._outage_ms = _ms(policy.outage_seconds)
        self._keep_completed, self._keep_failed = _ms(policy.keep_completed_seconds), _ms(policy.keep_failed_seconds)

    async def _call(self, operation: str, *args: str | int) -> Any:
        with redis_errors():
            return await self._script(keys=[TAG], args=[operation, *args])

    @staticmethod
    async def _read(answer: Any) -> Any:
        """The awaited answer of a plain command; the client's stubs can't tell that its answers are text."""
        with redis_errors():
            return await answer

    # -- what clients do

    async def register(self, new: NewJob) -> tuple[Job, bool]:
        """The job, durable and in the queue; False if it was there already (same id, same idempotency key).

        Raises ReelwayError TOO_MANY_REQUESTS when the owner has `queued_max` jobs waiting.
        """
        status, *fields = await self._call(
            "register",
            new.id,
            new.kind,
            new.owner,
            int(new.priority),
            encode_spec(new.spec),
            new.idempotency_key,
            new.retry_of,
            # The system's own jobs are bounded by the records that ask for them, and refusing one helps nobody.
            _NO_LIMIT if new.owner == SYSTEM_USER else self._policy.queued_max,
            *([] if new.share is None else [new.share]),
        )
        if status == "quota":
            raise ReelwayError(
                ErrorReason.TOO_MANY_REQUESTS, f"{self._policy.queued_max} tasks are waiting already; try again later"
            )
        return decode(_mapping(fields[0])), status == "created"

    async def get(self, job_id: str) -> Job | None:
        """The job, or None."""
        fields = await self._read(self._client.hgetall(f"{TAG}:job:{job_id}"))
        return decode(fields) if fields else None

    async def list_owned(self, owner: str, limit: int, before: tuple[int, str] | None = None) -> list[Job]:
        """At most `limit` jobs of an owner, newest first, after the position `before` (created_ms, id)."""
        newest = str(before[0]) if before else "+inf"
        look = functools.partial(self._client.zrange, desc=True, byscore=True, num=limit, withscores=True)
        offset, jobs = 0, list[Job]()
        while len(jobs) < limit:
            page = await self._read(look(f"{TAG}:jobs:{owner}", newest, "-inf", offset=offset))
            if not page:
                break
            offset += len(page)
            pipe = self._client.pipeline(transaction=False)
            for job_id, score in page:
                if before is None or (int(score), job_id) < before:
                    pipe.hgetall(f"{TAG}:job:{job_id}")
            jobs += [decode(fields) for fields in await self._read(pipe.execute()) if fields]
        return jobs[:limit]

    async def cancel(self, job_id: str) -> Cancelled:
        """Ends a waiting job at once; tells the worker of a running one."""
        return Cancelled(await self._call("cancel", job_id, uuid.uuid4().hex, self._keep_failed))

    async def stats(self) -> QueueStats:
        """Counts of the queue."""
        kinds = list(JobKind)
        numbers = [int(n) for n in await self._call("stats", *kinds)]
        per_kind = {kind: KindStats(*numbers[3 * i : 3 * i + 3]) for i, kind in enumerate(kinds)}
        return QueueStats(per_kind, *numbers[3 * len(kinds) :])

    # -- what workers do

    async def claim(self, worker: str, nonce: str, kinds: Iterable[JobKind]) -> JobLease | None:
        """The next job of the first of these kinds that has one, leased to this worker; None: nothing to do.

        A repeated call with the same nonce answers the same job; without kinds there is no other.
        """
        asked: tuple[str | int, ...] = (worker, nonce, self._lease_ms, *kinds)
        while (answer := await self._call("claim", *asked)) == "more":
            pass
        if not answer:
            return None
        token, flat = answer
        return JobLease(decode(_mapping(flat)), int(token))

    async def renew(self, worker: str, leases: Sequence[JobLease]) -> list[Holding]:
        """One more lease time for each job still held; says so for each, in order. Also the sign of life."""
        pairs = [part for lease in leases for part in (lease.job.id, lease.token)]
        return [Holding(answer) for answer in await self._call("renew", worker, self._lease_ms, *pairs)]

    async def renew_one(self, lease: JobLease) -> Holding:
        """As renew, for one job, in the midst of an attempt."""
        return Holding(await self._call("renew_one", self._lease_ms, lease.job.id, lease.token))

    async def leave(self, worker: str) -> None:
        """The worker is gone for good."""
        await self._call("leave", worker)

    async def report(self, lease: JobLease, progress: Progress) -> Holding:
        """Shows how far the attempt is."""
        compact = json.dumps(dataclasses.asdict(progress), separators=(",", ":"))
        return Holding(await self._call("progress", lease.job.id, lease.token, compact))

    async def begin_upload(self, lease: JobLease, upload_id: str, key: str) -> Holding:
        """Notes an output's multipart upload before its first part, so that any later attempt can abort it."""
        return Holding(await self._call("begin_upload", lease.job.id, lease.token, upload_id, key))

    async def uploads(self, job_id: str) -> dict[str, str]:
        """Multipart upload id -> object key, of attempts that did not commit."""
        found: dict[str, str] = await self._read(self._client.hgetall(f"{TAG}:uploads:{job_id}"))
        return found

    async def complete(self, lease: JobLease, result: Mapping[str, Any]) -> Holding:
        """Commits the result, if this attempt still holds the job; LOST and CANCEL change nothing."""
        compact = json.dumps(result, separators=(",", ":"))
        return Holding(await self._call("complete", lease.job.id, lease.token, compact, self._keep_completed))

    async def fail(self, lease: JobLease, fault: JobFault) -> AttemptOutcome:
        """Ends the attempt -> RETRY or OUTAGE (it will run again), FAILED, CANCELLED or LOST.

        A job whose fault may pass is tried `tries_max` times in all, with doubling pauses; until `outage_seconds` after
        its first Outage none of those is such a try.
        """
        answer = await self._call(
            "fail",
            lease.job.id,
            lease.token,
            fault.failure.reason,
            fault.failure.message,
            self._policy.tries_max if fault.may_pass else 0,
            self._backoff_ms,
            self._keep_failed,
            self._outage_ms if isinstance(fault, Outage) else 0,
        )
        return AttemptOutcome(answer)

    async def release(self, lease: JobLease) -> Holding:
        """Gives the job back to the queue, uncounted (a drain); a cancelled one ends here."""
        return Holding(await self._call("release", lease.job.id, lease.token, self._keep_failed))

    # -- what housekeeping does

    async def reap(self) -> dict[str, str]:
        """Takes jobs from workers that let their leases run out -> {id: requeued | poison | cancelled}.

        Also brings back what lies further ahead than a lease or a pause can: Redis' clock was set back.
        """
        answer = await self._call(
            "reap",
            self._policy.lost_workers_max,
            TaskFailure.POISON,
            _POISON_MESSAGE,
            self._keep_failed,
            self._lease_ms,
            self._policy.tries_max,
            self._backoff_ms,
        )
        return _mapping(answer)

    async def forget_due(self) -> int:
        """Removes records of jobs that were kept long enough, a few of them; returns how many."""
        return int(await self._call("forget_due"))

    async def debris(self) -> AsyncIterator[str]:
        """Jobs that ended without success and may have left uploads or outputs; one may come twice."""
        with redis_errors():
            async for job_id, _ in self._client.zscan_iter(f"{TAG}:debris"):
                yield job_id

    async def debris_removed(self, job_id: str) -> None:
        """Nothing of it is left in the object store."""
        await self._read(self._client.delete(f"{TAG}:uploads:{job_id}"))
        await self._read(self._client.zrem(f"{TAG}:debris", job_id))

    async def ping(self) -> None:
        """Raises while Redis can't be asked."""
        await self._read(self._client.ping())

    async def listen(self, *channels: str) -> AsyncIterator[tuple[str, str]]:
        """(channel, message) as they come, for ever, and ("", "") once each time the subscription stands.

        Within two seconds of Redis' return it does; what was published meanwhile is lost: look for yourself then.
        """
        while True:
            with contextlib.suppress(ReelwayError), redis_errors():
                async with self._client.pubsub() as subscriber:
                    await subscriber.subscribe(*channels)
                    async for found in _messages(subscriber, len(channels)):
                        yield found
            await asyncio.sleep(random.uniform(0.1, _RECONNECT_SECONDS))  # noqa: S311 - spread, no secret


async def _messages(subscriber: PubSub, channels: int) -> AsyncIterator[tuple[str, str]]:
    """What `listen` yields, as long as the connection lives."""
    asked = False
    while True:
        message = await subscriber.get_message(timeout=_SILENT_SECONDS)
        if message is None and asked:
            return  # The connection is dead without a word, usually because a NAT dropped it.
        asked = message is None
        match message:
            case {"type": "message", "channel": channel, "data": data}:
                yield channel, data
            # The answer for the last channel; also comes where the client has subscribed again by itself.
            case {"type": "subscribe", "data": count} if count == channels:
                yield "", ""
            case None:
                await subscriber.ping()
