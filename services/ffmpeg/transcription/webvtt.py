"""Cues as WebVTT (W3C WebVTT, sections 4.1 and 4.2.2)."""

from __future__ import annotations

from collections.abc import Iterable

from services.ffmpeg.transcription.cues import Cue

CONTENT_TYPE = "text/vtt; charset=utf-8"
_ESCAPES = str.maketrans({"&": "&amp;", "<": "&lt;", ">": "&gt;"})


def render(cues: Iterable[Cue]) -> str:
    """The file; without cues it is the signature alone, which players take as no captions."""
    return "WEBVTT\n\n" + "".join(
        f"{timestamp(cue.start)} --> {timestamp(cue.end)}\n{cue.text.translate(_ESCAPES)}\n\n" for cue in cues
    )


def timestamp(seconds: float) -> str:
    """`HH:MM:SS.mmm`; more than two digits of hours where there are so many."""
    whole, thousandths = divmod(round(seconds * 1000), 1000)
    minutes, second = divmod(whole, 60)
    hours, minute = divmod(minutes, 60)
    return f"{hours:02d}:{minute:02d}:{second:02d}.{thousandths:03d}"
