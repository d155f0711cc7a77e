"""A job as the store knows it."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from typing import Any

from services.common.errors import ReelwayError
from services.common.task_failure import TaskFailure
from services.ffmpeg.job_state import JobKind, JobState, Priority
from services.ffmpeg.transcription.failure import FailureReason


@dataclasses.dataclass(frozen=True)
class NewJob:
    """What a registration brings; everything else about a job is the store's to set."""

    # UUID, lower case with hyphens.
    id: str
    kind: JobKind
    # `sub` of the caller; empty: nobody's.
    owner: str
    # What the kind's handler needs, as JSON types; the store does not look inside.
    spec: Mapping[str, Any]
    priority: Priority = Priority.NORMAL
    # A second registration by the same owner with the same key answers the first job; empty: none.
    idempotency_key: str = ""
    # The job that this one repeats; empty: none.
    retry_of: str = ""
    # Whom the system does it for (empty: nobody), in turn with the others; None: its owner's unfinished jobs decide.
    share: str | None = None


# The largest fraction that is told of work that has not ended: lengths are estimates, and outputs are yet to be stored.
MOST_UNFINISHED = 0.99


@dataclasses.dataclass(frozen=True)
class Progress:
    """How far a running job is."""

    # 0 to 1; 0 while it can't be known.
    fraction: float = 0.0
    # Frames encoded each second of wall time; 0: not known.
    fps: float = 0.0
    # Seconds of media done each second of wall time; 0: not known.
    speed: float = 0.0
    # Seconds of media done.
    media_seconds: float = 0.0


@dataclasses.dataclass(frozen=True)
class JobFailure:
    """Why a job failed, in words its owner can act on: no path, host name or traceback."""

    # UPPER_SNAKE, the name of a TaskFailure or of what a kind of video work has of its own.
    reason: str
    message: str


class JobFault(Exception):
    """Raised by a handler: the job can't be done; the message is what its owner is told."""

    def __init__(self, reason: TaskFailure | FailureReason, message: str, *, may_pass: bool = False) -> None:
        super().__init__(f"{reason.name}: {message}")
        self.reason = reason
        self.failure = JobFailure(reason.name, message)
        # Try again (network); else the next try would end the same way.
        self.may_pass = may_pass


class Outage(JobFault):
    """The fault of our own machinery, whatever the job: it is tried again for hours (JOB_OUTAGE_SECONDS)."""

    def __init__(self, reason: TaskFailure | FailureReason, message: str) -> None:
        super().__init__(reason, message, may_pass=True)


def is_outage(error: ReelwayError) -> bool:
    """A store or a service of ours was away, or slow."""
    return error.kind.retry_seconds is not None


@dataclasses.dataclass(frozen=True)
class Job:
    """One job. Times are milliseconds since the epoch by Redis' clock; None: not yet."""

    id: str
    kind: JobKind
    owner: str
    spec: Mapping[str, Any]
    priority: Priority
    state: JobState
    created_ms: int
    # Start of the latest attempt.
    started_ms: int | None = None
    finished_ms: int | None = None
    # Not before this time; set while a retry waits.
    due_ms: int | None = None
    # How often it was started.
    attempt: int = 0
    # Attempts that ended in a passing fault, outages excepted.
    tries: int = 0
    # Workers that vanished while they ran it.
    lost_workers: int = 0
    # A cancel was asked for; the worker has yet to obey.
    cancel_requested: bool = False
    progress: Progress = Progress()
    failure: JobFailure | None = None
    # What the handler returned, JSON types; empty until completed.
    result: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    retry_of: str = ""


@dataclasses.dataclass(frozen=True)
class JobLease:
    """The right to run a job and to write its result, for as long as the store accepts the token."""

    job: Job
    # Grows with every claim of any job; a write with another token than the job's latest is refused.
    token: int


def encode_spec(spec: Mapping[str, Any]) -> str:
    """A job's spec as its record holds it: JSON, all of it ASCII."""
    return json.dumps(spec, separators=(",", ":"))


def decode(fields: Mapping[str, str]) -> Job:
    """A job from its Redis hash; the fields are listed in redis_job_store.py."""

    def optional_ms(name: str) -> int | None:
        value = fields.get(name)
        return int(value) if value else None

    reason = fields.get("reason", "")
    return Job(
        id=fields["id"],
        kind=JobKind(fields["kind"]),
        owner=fields["owner"],
        spec=json.loads(fields["spec"]),
        priority=Priority(int(fields["class"])),
        state=JobState(fields["state"]),
        created_ms=int(fields["created"]),
        started_ms=optional_ms("started"),
        finished_ms=optional_ms("finished"),
        due_ms=optional_ms("due"),
        attempt=int(fields.get("attempt", 0)),
        tries=int(fields.get("tries", 0)),
        lost_workers=int(fields.get("lost", 0)),
        cancel_requested=fields.get("cancel") == "1",
        progress=Progress(**json.loads(fields["progress"])) if fields.get("progress") else Progress(),
        failure=JobFailure(reason, fields.get("error", "")) if reason else None,
        result=json.loads(fields["result"]) if fields.get("result") else {},
        retry_of=fields.get("retry_of", ""),
    )
