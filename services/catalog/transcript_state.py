"""The life of a transcript: every legal step in one table."""

from __future__ import annotations

from typing import TypeAlias

from reelway.v1 import media_pb2

from services.common.error_catalog import ErrorReason
from services.common.errors import ReelwayError

State: TypeAlias = "media_pb2.TranscriptState.ValueType"

TRANSITIONS: dict[State, frozenset[State]] = {
    media_pb2.TRANSCRIPT_STATE_UNSPECIFIED: frozenset({media_pb2.TRANSCRIPT_STATE_PENDING}),
    # To an outcome at once: its job ended before a worker began, or Redis came back as it was before that.
    media_pb2.TRANSCRIPT_STATE_PENDING: frozenset(
        {
            media_pb2.TRANSCRIPT_STATE_RUNNING,
            media_pb2.TRANSCRIPT_STATE_COMPLETED,
            media_pb2.TRANSCRIPT_STATE_FAILED,
        }
    ),
    media_pb2.TRANSCRIPT_STATE_RUNNING: frozenset(
        {media_pb2.TRANSCRIPT_STATE_COMPLETED, media_pb2.TRANSCRIPT_STATE_FAILED}
    ),
    # Asked for again.
    media_pb2.TRANSCRIPT_STATE_COMPLETED: frozenset({media_pb2.TRANSCRIPT_STATE_PENDING}),
    media_pb2.TRANSCRIPT_STATE_FAILED: frozenset({media_pb2.TRANSCRIPT_STATE_PENDING}),
}

UNDER_WAY: frozenset[State] = frozenset({media_pb2.TRANSCRIPT_STATE_PENDING, media_pb2.TRANSCRIPT_STATE_RUNNING})
"""States in which the newest request has no outcome yet."""


def step(transcript: media_pb2.Transcript, state: State) -> None:
    """Set the state; an illegal step is a defect, INTERNAL."""
    if state not in TRANSITIONS[transcript.state]:
        raise ReelwayError(ErrorReason.INTERNAL, f"illegal step {transcript.state} -> {state}")
    transcript.state = state
