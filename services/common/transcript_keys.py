"""Where a video's transcripts are."""

from __future__ import annotations

import hashlib

TRANSCRIPTS = "transcripts/"
"""All of them."""


def transcript_prefix(video_id: str) -> str:
    """Below it is everything that was heard in a video; it goes with the video."""
    return f"{TRANSCRIPTS}{video_id}/"


def transcript_key(video_id: str, source_etag: str, engine: str, model: str, language: str) -> str:
    """Idempotency key: the same video, bytes, engine, model and asked-for language give the same transcript."""
    parts = "\0".join([video_id, source_etag, engine, model, language])
    return hashlib.sha256(parts.encode()).hexdigest()[:32]


def captions_key(key: str) -> str:
    """Of the WebVTT of a transcript whose prefix is known."""
    return f"{key}.vtt"


def document_key(key: str) -> str:
    """Of its text, language and cues as JSON."""
    return f"{key}.json"
