"""Where the catalogue's records are."""

from __future__ import annotations

RECORDS = "catalog/"
"""All of them."""


def record_key(video_id: str) -> str:
    """Of the record of truth of a video."""
    return f"{RECORDS}{video_id}.json"
