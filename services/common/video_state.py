"""The life of a video: every legal step in one table."""

from __future__ import annotations

from typing import TypeAlias

from reelway.v1 import media_pb2

State: TypeAlias = "media_pb2.VideoState.ValueType"

TRANSITIONS: dict[State, frozenset[State]] = {
    media_pb2.VIDEO_STATE_UPLOADING: frozenset({media_pb2.VIDEO_STATE_READY, media_pb2.VIDEO_STATE_DELETING}),
    media_pb2.VIDEO_STATE_READY: frozenset({media_pb2.VIDEO_STATE_DELETING}),
    media_pb2.VIDEO_STATE_DELETING: frozenset({media_pb2.VIDEO_STATE_DELETED}),
    media_pb2.VIDEO_STATE_DELETED: frozenset(),
}

INITIAL: frozenset[State] = frozenset({media_pb2.VIDEO_STATE_UPLOADING, media_pb2.VIDEO_STATE_READY})
"""States that a new record may have."""

GONE: frozenset[State] = frozenset({media_pb2.VIDEO_STATE_DELETING, media_pb2.VIDEO_STATE_DELETED})
"""States in which nobody sees the video."""
