"""Where a video's transcripts are."""

from __future__ import annotations


def transcript_prefix(video_id: str) -> str:
    """Below it is everything that was heard in a video; it goes with the video."""
    return f"transcripts/{video_id}/"
