"""The keys of all objects.

What each holds, and who writes it:

    videos/{video_id}.{ext}   bytes of a finished video           upload; of a signed one, ffmpeg worker
    journal/{video_id}/…      chunks of a growing video           upload (see extents.py)
    joined/{video_id}/…       its clips as one file               ffmpeg worker (see joined.py)
    catalog/{video_id}.json   the record, the truth               catalog
    incoming/{video_id}       what a signed form brought          the client
    thumbnails/{video_id}.jpg a picture of a video                ffmpeg worker
    transcripts/{video_id}/…  what is said in a video             ffmpeg worker (see transcribe_handler.py)
    ffmpeg-outputs/{task_id}/{name}  one output of a task         ffmpeg worker (see outputs.py)
"""

from __future__ import annotations

import hashlib

from reelway.v1 import media_pb2

from services.common.containers import KINDS

VIDEOS, JOURNALS, JOINED = "videos/", "journal/", "joined/"
RECORDS, INCOMING, TRANSCRIPTS = "catalog/", "incoming/", "transcripts/"


def object_key(video_id: str, container: media_pb2.Container.ValueType) -> str:
    """Where a finished video's bytes are."""
    return f"{VIDEOS}{video_id}.{KINDS[container].extension}"


def object_keys(video_id: str) -> list[str]:
    """All keys that they may have, where the container is not known."""
    return [object_key(video_id, container) for container in KINDS]


def journal_prefix(video_id: str) -> str:
    """What the keys of all chunks of a video begin with."""
    return f"{JOURNALS}{video_id}/"


def joined_prefix(video_id: str) -> str:
    """What the keys of all joined versions of a video's clips begin with."""
    return f"{JOINED}{video_id}/"


def record_key(video_id: str) -> str:
    """Of the record of truth of a video."""
    return f"{RECORDS}{video_id}.json"


def incoming_key(video_id: str) -> str:
    """Where a signed upload arrives."""
    return f"{INCOMING}{video_id}"


def thumbnail_key(video_id: str) -> str:
    """Where a video's picture is."""
    return f"thumbnails/{video_id}.jpg"


def transcript_prefix(video_id: str) -> str:
    """Prefix of all that transcriptions of a video stored; it is deleted with the video."""
    return f"{TRANSCRIPTS}{video_id}/"


def transcript_key(video_id: str, source_etag: str, engine: str, model: str, language: str) -> str:
    """Idempotency key: the same video, bytes, engine, model and asked-for language give the same transcript."""
    parts = "\0".join([video_id, source_etag, engine, model, language])
    return hashlib.sha256(parts.encode()).hexdigest()[:32]


def captions_key(key: str) -> str:
    """Of the WebVTT of the transcript with this prefix."""
    return f"{key}.vtt"


def document_key(key: str) -> str:
    """Of its text, language and cues as JSON."""
    return f"{key}.json"
