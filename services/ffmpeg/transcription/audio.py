"""Getting the sound out of a media file, with ffmpeg and ffprobe in their cage."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from services.ffmpeg.transcription.failure import FailureReason, TranscriptionError
from services.ffmpeg.transcription.words import SAMPLE_RATE

PROBE_SECONDS = 60.0
_BYTES_A_SECOND = 2 * SAMPLE_RATE


@dataclass(frozen=True)
class Finished:
    """How a program ended."""

    returncode: int
    stdout: bytes
    """Bounded by the runner."""
    stderr: str
    """Its last words."""


class Runner(Protocol):
    """Runs ffmpeg or ffprobe in the sandbox."""

    async def __call__(
        self, program: str, arguments: Sequence[str], *, read: Path, write: Path | None, timeout: float
    ) -> Finished:
        """Run `ffmpeg` or `ffprobe` until it ends; it may read only `read` and write only `write`.

        Raises:
            TimeoutError: it was killed after `timeout` seconds.
        """
        ...


def probe_arguments(media: Path) -> list[str]:
    """ffprobe: the file's audio streams as JSON."""
    return [
        *("-v", "error", "-protocol_whitelist", "file"),
        *("-select_streams", "a", "-show_entries", "stream=index,codec_name", "-of", "json"),
        *("-i", f"file:{media}"),
    ]


def extract_arguments(media: Path, pcm: Path, max_seconds: float) -> list[str]:
    """ffmpeg: the first audio stream as raw mono samples.

    `first_pts=0` pads sound that begins late, so that times are those of the video. A file can claim any length
    of silence; a second beyond the limit is enough to notice.
    """
    return [
        *("-nostdin", "-v", "error", "-y", "-threads", "1", "-protocol_whitelist", "file"),
        *("-i", f"file:{media}", "-map", "0:a:0", "-vn", "-sn", "-dn"),
        *("-af", "aresample=async=1:first_pts=0", "-ac", "1", "-ar", str(SAMPLE_RATE)),
        *("-t", f"{max_seconds + 1:.0f}", "-c:a", "pcm_s16le", "-f", "s16le", f"file:{pcm}"),
    ]


async def has_audio(run: Runner, media: Path) -> bool:
    """Whether there is a sound track that ffmpeg has a decoder's name for.

    Raises:
        TranscriptionError: AUDIO_UNREADABLE; TIMED_OUT.
    """
    try:
        done = await run("ffprobe", probe_arguments(media), read=media, write=None, timeout=PROBE_SECONDS)
    except TimeoutError:
        raise TranscriptionError(FailureReason.TIMED_OUT, "ffprobe") from None
    if done.returncode != 0:
        raise TranscriptionError(FailureReason.AUDIO_UNREADABLE, done.stderr)
    try:
        streams = json.loads(done.stdout)["streams"]
    except (ValueError, KeyError, TypeError):
        raise TranscriptionError(FailureReason.AUDIO_UNREADABLE, "ffprobe wrote no JSON") from None
    return any(stream.get("codec_name") for stream in streams)


async def extract(run: Runner, media: Path, pcm: Path, max_seconds: float, timeout: float) -> float:
    """Decode the sound into `pcm`; its length in seconds.

    Raises:
        TranscriptionError: AUDIO_UNREADABLE; AUDIO_TOO_LONG; TIMED_OUT.
    """
    try:
        done = await run("ffmpeg", extract_arguments(media, pcm, max_seconds), read=media, write=pcm, timeout=timeout)
    except TimeoutError:
        raise TranscriptionError(FailureReason.TIMED_OUT, "ffmpeg") from None
    if done.returncode != 0:
        raise TranscriptionError(FailureReason.AUDIO_UNREADABLE, done.stderr)
    seconds = _size(pcm) / _BYTES_A_SECOND
    if seconds > max_seconds:
        raise TranscriptionError(FailureReason.AUDIO_TOO_LONG, f"more than {max_seconds:.0f} s")
    return seconds


def _size(file: Path) -> int:
    return file.stat().st_size if file.is_file() else 0
