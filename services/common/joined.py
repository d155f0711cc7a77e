"""Where the clips of a video are as one file; entity_tags.py names its version.

    joined/{video_id}/{chain}-{size in hex}.{ext}   the clips of the journal version with that entity tag, as one file

A last clip of which nothing can be decoded yet is left out. A new append makes a new version; the sweeper removes those
that are out of date.
"""

from __future__ import annotations

from dataclasses import dataclass

from reelway.v1 import media_pb2

from services.common.containers import KINDS
from services.common.entity_tags import of_joined, unquoted
from services.common.object_keys import joined_prefix
from services.common.s3_objects import S3Objects

_CONTAINERS = {kind.extension: container for container, kind in KINDS.items()}


@dataclass(frozen=True)
class Joined:
    """One version of a video's clips, as one file."""

    key: str
    size: int
    etag: str
    """With quotes: of the journal's version, and of what was made of it."""
    container: media_pb2.Container.ValueType


async def find_joined(objects: S3Objects, video_id: str, etag: str) -> Joined | None:
    """The file made of the journal version with this entity tag; None if it was not made."""
    name = f"{joined_prefix(video_id)}{unquoted(etag)}."
    async for info in objects.list(name):
        extension = info.key[len(name) :]
        if extension in _CONTAINERS:
            tag = of_joined(etag, extension, info.etag)
            return Joined(info.key, info.size, tag, _CONTAINERS[extension])
    return None
