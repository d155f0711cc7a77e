"""Which lists a video is in, told from its record alone: the commit, the rebuild and the tests ask here."""

from __future__ import annotations

from collections.abc import Mapping

from reelway.v1 import media_pb2

from services.catalog.transcript_state import UNDER_WAY
from services.common.caller import SYSTEM_USER
from services.common.video_state import READABLE, is_one_object

PREFIX = "{catalog}:"
EXPLORE, SIGNED, PROCESSING, DELETING = (PREFIX + name for name in ("explore", "signed", "processing", "deleting"))
TRANSCRIBING, PUBLISHED, GROWING = PREFIX + "transcribing", PREFIX + "published", PREFIX + "growing"

DUE = "due"
"""Instead of a score: the time of the commit that put it there first."""


_UNPROCESSED = {
    media_pb2.VIDEO_STATE_UPLOADING,
    media_pb2.VIDEO_STATE_PROCESSING,
    media_pb2.VIDEO_STATE_FAILED,
}


def owned_key(owner: str) -> str:
    """What an owner (empty: nobody) has, by number; without what only the library knows."""
    return f"{PREFIX}owned:{owner}"


def library_key(owner: str) -> str:
    """An owner's finished videos, published or not, by number."""
    return f"{PREFIX}library:{owner}"


def unprocessed_key(owner: str) -> str:
    """An owner's videos that grow, are processed or failed, by number."""
    return f"{PREFIX}unprocessed:{owner}"


def public_key(owner: str) -> str:
    """An owner's published videos, by listing time."""
    return f"{PREFIX}public:{owner}"


def private_key(owner: str) -> str:
    """An owner's published and private videos, by listing time."""
    return f"{PREFIX}private:{owner}"


def listed_for(user: str) -> list[str]:
    """The lists, each by number, that have what `user` (empty: anonymous) may see without knowing its id.

    The system is shown what it looks after: everybody's videos that grow.
    """
    if user == SYSTEM_USER:
        return [GROWING]
    return [owned_key(""), PUBLISHED, *([owned_key(user)] if user else [])]


def wants_processing(video: media_pb2.Video) -> bool:
    """It has bytes that nobody has looked at yet."""
    if video.state == media_pb2.VIDEO_STATE_PROCESSING:
        return True
    return is_one_object(video) and not video.HasField("process_time")


def wants_transcript(video: media_pb2.Video) -> bool:
    """It is to be heard, and its bytes are one object that can be."""
    return is_one_object(video) and video.transcript.state in UNDER_WAY


def memberships(video: media_pb2.Video) -> Mapping[str, str]:
    """Key of every sorted set that may have the video -> its score there; empty: it is not in there."""
    state = video.state
    number = str(video.number)
    finished = state in (media_pb2.VIDEO_STATE_DRAFT, media_pb2.VIDEO_STATE_READY)
    waiting = state in _UNPROCESSED
    listed = state == media_pb2.VIDEO_STATE_READY and video.HasField("listing_time")
    listing = str(video.listing_time.ToMicroseconds()) if listed else ""
    found = {
        owned_key(video.owner): number if state in READABLE else "",
        PROCESSING: DUE if wants_processing(video) else "",
        TRANSCRIBING: DUE if wants_transcript(video) else "",
        DELETING: DUE if state == media_pb2.VIDEO_STATE_DELETING else "",
        GROWING: number if state == media_pb2.VIDEO_STATE_UPLOADING else "",
        SIGNED: str(video.create_time.ToSeconds()) if state == media_pb2.VIDEO_STATE_SIGNED else "",
    }
    if video.owner:
        found |= {
            EXPLORE: listing if not video.is_private else "",
            PUBLISHED: number if listed and not video.is_private else "",
            library_key(video.owner): number if finished else "",
            unprocessed_key(video.owner): number if waiting else "",
            public_key(video.owner): listing if not video.is_private else "",
            private_key(video.owner): listing if video.is_private else "",
        }
    return found


def known_owner(video: media_pb2.Video) -> str:
    """Its owner, once there is a video; empty: none, or only a promise of one."""
    return "" if video.state == media_pb2.VIDEO_STATE_SIGNED else video.owner
