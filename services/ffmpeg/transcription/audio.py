"""Getting the sound out of a media file, with ffmpeg in its cage."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

from services.ffmpeg.error_text import last_words
from services.ffmpeg.format_table import INPUT_GUARD
from services.ffmpeg.limits import Limits
from services.ffmpeg.probe import ProbeFailed, probe
from services.ffmpeg.process import Ended, run_sandboxed
from services.ffmpeg.sandbox import Sandbox
from services.ffmpeg.transcription.failure import FailureReason, TranscriptionError
from services.ffmpeg.transcription.words import SAMPLE_RATE
from services.ffmpeg.work_folder import WorkFolder

_NAME = "audio.s16"
_BYTES_A_SECOND = 2 * SAMPLE_RATE
_SLACK_BYTES = 2**20
_LEAST_SECONDS = 120.0
# Decoding goes a hundred times faster than sound plays, or more; a tenth of its length is patience enough.
_PATIENCE = 0.1


class Audio(Protocol):
    """The sound of one media file."""

    async def exists(self) -> bool:
        """Whether the file has a sound track; raises TranscriptionError AUDIO_UNREADABLE."""
        ...

    async def decode(self, max_seconds: float) -> Path:
        """A file with the samples (see words.SAMPLE_RATE), about `max_seconds` of them at most.

        Raises:
            TranscriptionError: AUDIO_UNREADABLE, TIMED_OUT.
        """
        ...


class CagedAudio:
    """Sound of the file at `media`, which lies in `folder`'s `in`; the samples go to its `out`."""

    def __init__(self, sandbox: Sandbox, folder: WorkFolder, media: Path) -> None:
        self._sandbox, self._folder, self._media = sandbox, folder, media

    async def exists(self) -> bool:
        """Whether there is a stream of sound that ffmpeg knows the codec of."""
        try:
            found = await probe(self._sandbox, self._folder, self._media)
        except ProbeFailed as error:
            raise TranscriptionError(FailureReason.AUDIO_UNREADABLE, str(error)) from None
        if found.video is None and found.audio is None:
            # As ffprobe sees a file that ends within its index: there may have been sound.
            raise TranscriptionError(FailureReason.AUDIO_UNREADABLE, "there is neither picture nor sound")
        return found.audio is not None and bool(found.audio.codec)

    async def decode(self, max_seconds: float) -> Path:
        """The first stream of sound, as raw samples."""
        pcm = self._folder.path / "out" / _NAME
        seconds = max(_LEAST_SECONDS, max_seconds * _PATIENCE)
        limits = Limits(
            wall_seconds=seconds,
            cpu_seconds=int(seconds),
            memory_bytes=2**30,
            address_space_bytes=4 * 2**30,
            output_bytes=int(_BYTES_A_SECOND * (max_seconds + 1)) + _SLACK_BYTES,
        )
        argv = [self._sandbox.ffmpeg, *extract_arguments(self._media, pcm, max_seconds)]
        result = await run_sandboxed(self._sandbox, argv, self._folder, limits)
        result.require_conclusive()
        if result.ended in {Ended.WALL_CLOCK, Ended.CPU}:
            raise TranscriptionError(FailureReason.TIMED_OUT, f"ffmpeg {result.ended.value}")
        if result.ended is not Ended.SUCCEEDED:
            why = last_words(result.stderr, {str(self._media): "the file"}) or result.ended.value
            raise TranscriptionError(FailureReason.AUDIO_UNREADABLE, why)
        return pcm


def extract_arguments(media: Path, pcm: Path, max_seconds: float) -> list[str]:
    """What ffmpeg is told.

    `first_pts=0` pads sound that begins late, so that times are those of the video. A file can claim any length
    of silence; a second beyond the limit is enough to notice. ffmpeg holds all of a gap in memory at once, so the sound
    is made as small as it is wanted before gaps are filled.
    """
    return [
        *("-hide_banner", "-nostdin", "-loglevel", "error", "-y", "-threads", "1"),
        *(*INPUT_GUARD, "-i", f"file:{media}"),
        *("-map", "0:a:0", "-vn", "-sn", "-dn"),
        *("-af", f"aformat=s16:{SAMPLE_RATE}:mono,aresample=async=1:first_pts=0", "-t", f"{max_seconds + 1:.0f}"),
        *("-c:a", "pcm_s16le", "-f", "s16le", f"file:{pcm}"),
    ]
