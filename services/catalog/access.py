"""Who may see and who may change a video; the same answer behind every API."""

from __future__ import annotations

from reelway.v1 import media_pb2

from services.common.caller import may_change
from services.common.error_catalog import ErrorReason
from services.common.errors import ReelwayError
from services.common.video_state import GONE, READABLE


def may_see(video: media_pb2.Video, user: str) -> bool:
    """Whoever has the id, unless the video is private and not theirs, not published yet, or gone."""
    if video.state not in READABLE:
        return False
    return not video.is_private or (video.owner != "" and video.owner == user)


def require_change(video: media_pb2.Video, user: str) -> None:
    """Raises VIDEO_NOT_FOUND where `user` may not see it, NOT_THE_OWNER where it may only see it."""
    if not may_see(video, user):
        raise ReelwayError(ErrorReason.VIDEO_NOT_FOUND)
    if not may_change(video.owner, user):
        raise ReelwayError(ErrorReason.NOT_THE_OWNER)


def require_living(video: media_pb2.Video) -> None:
    """Raises VIDEO_NOT_FOUND for a tombstone."""
    if video.state in GONE:
        raise ReelwayError(ErrorReason.VIDEO_NOT_FOUND)


def require_sealed(video: media_pb2.Video) -> None:
    """Raises NOT_SEALED for a video that grows: chunks may still come, and would belong to nothing."""
    if video.state == media_pb2.VIDEO_STATE_UPLOADING:
        raise ReelwayError(ErrorReason.NOT_SEALED, "The video still grows: abort its upload instead")


def is_own(video: media_pb2.Video, user: str) -> bool:
    """Whether `user` (not empty) may manage it in its library: in any state that it knows of, unless gone."""
    return video.owner == user and video.state not in GONE and video.state != media_pb2.VIDEO_STATE_SIGNED
