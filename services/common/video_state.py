"""The life of a video: every legal step in one table."""

from __future__ import annotations

from typing import TypeAlias

from reelway.v1 import media_pb2

from services.common.error_catalog import ErrorReason
from services.common.errors import ReelwayError

State: TypeAlias = "media_pb2.VideoState.ValueType"

TRANSITIONS: dict[State, frozenset[State]] = {
    media_pb2.VIDEO_STATE_UPLOADING: frozenset({media_pb2.VIDEO_STATE_READY, media_pb2.VIDEO_STATE_DELETING}),
    media_pb2.VIDEO_STATE_READY: frozenset({media_pb2.VIDEO_STATE_DELETING}),
    # Arrived; or never came.
    media_pb2.VIDEO_STATE_SIGNED: frozenset({media_pb2.VIDEO_STATE_PROCESSING, media_pb2.VIDEO_STATE_DELETING}),
    media_pb2.VIDEO_STATE_PROCESSING: frozenset({media_pb2.VIDEO_STATE_DRAFT, media_pb2.VIDEO_STATE_FAILED}),
    media_pb2.VIDEO_STATE_DRAFT: frozenset({media_pb2.VIDEO_STATE_READY, media_pb2.VIDEO_STATE_DELETING}),
    media_pb2.VIDEO_STATE_FAILED: frozenset({media_pb2.VIDEO_STATE_DELETING}),
    media_pb2.VIDEO_STATE_DELETING: frozenset({media_pb2.VIDEO_STATE_DELETED}),
    media_pb2.VIDEO_STATE_DELETED: frozenset(),
}

INITIAL: frozenset[State] = frozenset(
    {media_pb2.VIDEO_STATE_UPLOADING, media_pb2.VIDEO_STATE_READY, media_pb2.VIDEO_STATE_SIGNED}
)
"""States that a new record may have."""

GONE: frozenset[State] = frozenset({media_pb2.VIDEO_STATE_DELETING, media_pb2.VIDEO_STATE_DELETED})
"""States in which nobody sees the video."""

READABLE: frozenset[State] = frozenset({media_pb2.VIDEO_STATE_UPLOADING, media_pb2.VIDEO_STATE_READY})
"""States in which a video can be asked for by its id; in all others there is none, for whoever asks."""


def is_one_object(video: media_pb2.Video) -> bool:
    """It is finished, and its bytes are one object, which its record names."""
    return video.state == media_pb2.VIDEO_STATE_READY and bool(video.object_key)


def step(video: media_pb2.Video, state: State) -> None:
    """Set the state; an illegal step is a defect, INTERNAL."""
    if state not in TRANSITIONS[video.state]:
        raise ReelwayError(ErrorReason.INTERNAL, f"illegal step {video.state} -> {state}")
    video.state = state
