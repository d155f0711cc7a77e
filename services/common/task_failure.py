"""Why an ffmpeg task failed: the `reason` of a TaskError."""

from __future__ import annotations

import enum


class TaskFailure(enum.StrEnum):
    """What stands in records and on the wire; other services decide by it whether a task has a successor.

    Work on videos may have reasons of its own, which nobody else looks at.
    """

    INPUT_UNAVAILABLE = "INPUT_UNAVAILABLE"
    INPUT_REFUSED = "INPUT_REFUSED"
    INPUT_TOO_LARGE = "INPUT_TOO_LARGE"
    COMMAND_REFUSED = "COMMAND_REFUSED"
    FFMPEG_FAILED = "FFMPEG_FAILED"
    OUTPUT_MISSING = "OUTPUT_MISSING"
    LIMIT_EXCEEDED = "LIMIT_EXCEEDED"
    STORAGE_UNAVAILABLE = "STORAGE_UNAVAILABLE"
    """A store or a service of ours was away, or a worker's disk full or failing."""
    INTERNAL = "INTERNAL"
    POISON = "POISON"
    """Each worker that ran it vanished."""
    CANCELLED = "CANCELLED"
