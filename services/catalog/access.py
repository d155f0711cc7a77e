"""Who may see and who may change a video; the same answer behind every API."""

from __future__ import annotations

from reelway.v1 import media_pb2

from services.common.video_state import GONE


def may_see(video: media_pb2.Video, user: str) -> bool:
    """Whoever has the id, unless the video is private and not theirs, or gone."""
    if video.state in GONE:
        return False
    return not video.is_private or (video.owner != "" and video.owner == user)


def may_change(video: media_pb2.Video, user: str) -> bool:
    """The owner; anybody, where there is none."""
    return video.owner in ("", user)
