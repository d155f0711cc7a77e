"""The states of a job, what may follow what, how attempts end, and the kinds of work there are."""

from __future__ import annotations

import enum
from collections.abc import Mapping


class JobState(enum.StrEnum):
    """Where a job is. The value is what Redis holds."""

    PENDING = "pending"
    RUNNING = "running"
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"

    @property
    def finished(self) -> bool:
        """Nothing follows: the job, its result and its outputs stay as they are until they are swept."""
        return not TRANSITIONS[self]


# The Lua that changes states gets this very table (redis_job_store.py), so there is no second one to keep.
TRANSITIONS: Mapping[JobState, frozenset[JobState]] = {
    # A job that nobody runs is cancelled at once.
    JobState.PENDING: frozenset({JobState.RUNNING, JobState.CANCELLED}),
    # Back to pending: a retry after a passing fault, a lost worker, a drain.
    JobState.RUNNING: frozenset(
        {JobState.COMPLETED, JobState.FAILED, JobState.CANCELLED, JobState.PENDING},
    ),
    JobState.COMPLETED: frozenset(),
    JobState.FAILED: frozenset(),
    JobState.CANCELLED: frozenset(),
}


class AttemptOutcome(enum.StrEnum):
    """What came of one attempt. The value is what the store answers and the metrics say."""

    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"
    RETRY = "retry"
    """A fault that may pass: the job runs again after a pause."""
    OUTAGE = "outage"
    """The same, for a fault of our own machinery, which is no try."""
    RELEASED = "released"
    """Its worker drains: the job runs again, elsewhere."""
    LOST = "lost"
    """Another attempt has the job, or it is finished: nothing was written."""
    BROKEN = "broken"
    """It could not even write how it ended."""
    DIED = "died"
    """Its worker is gone, or frozen."""


class JobKind(enum.StrEnum):
    """What a job does. The value is what Redis holds and part of the queue's key.

    In the order in which a worker looks for work: what a person waits for first. Each kind has slots of its own, so
    the order decides only who is claimed first, never who runs at all.
    """

    PROBE = "probe"
    JOIN = "join"
    COMMAND = "command"
    TRANSCRIBE = "transcribe"


class Priority(enum.IntEnum):
    """Order within a kind: a lower class goes first, whatever the owner's fair share."""

    INTERACTIVE = 0
    NORMAL = 1
    BULK = 2
