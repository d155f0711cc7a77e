"""Where the library's objects are."""

from __future__ import annotations

INCOMING = "incoming/"
"""Prefix of what clients upload with signed forms."""


def incoming_key(video_id: str) -> str:
    """Where a signed upload arrives."""
    return f"{INCOMING}{video_id}"


def thumbnail_key(video_id: str) -> str:
    """Where a video's picture is."""
    return f"thumbnails/{video_id}.jpg"
