"""The decoded audio as a file that is read piece by piece: hours of it cost the memory of one piece."""

from __future__ import annotations

import os
from collections.abc import Iterator
from operator import mul
from pathlib import Path
from types import TracebackType

from services.ffmpeg.transcription.words import SAMPLE_RATE

SILENCE_PEAK = 32
"""Largest sample of what counts as silence: -60 dBFS of 16 bit. Nothing that can be understood is so quiet."""
_FRAME = SAMPLE_RATE // 20
_QUIET_FRAMES = 4


class PcmFile:
    """Samples on disk: int16 in the machine's order (ffmpeg's s16le), mono, 16 kHz. A context manager."""

    def __init__(self, path: Path) -> None:
        # ffmpeg wrote it, and may have been talked into anything: no link is followed.
        self._file = os.fdopen(os.open(path, os.O_RDONLY | os.O_NOFOLLOW), "rb")
        self.length = os.fstat(self._file.fileno()).st_size // 2
        """Samples; an odd last byte does not count."""

    def __enter__(self) -> PcmFile:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._file.close()

    def read(self, start: int, end: int) -> memoryview:
        """Samples [start, end), as many as there are, as a view of int16."""
        self._file.seek(2 * start)
        data = self._file.read(2 * (min(end, self.length) - start))
        return memoryview(data).cast("h")


def is_silent(samples: memoryview) -> bool:
    """No sample is louder than -60 dBFS."""
    step = 1 << 18
    for at in range(0, len(samples), step):
        block = samples[at : at + step].tolist()
        if max(block) > SILENCE_PEAK or min(block) < -SILENCE_PEAK:
            return False
    return True


def cut(pcm: PcmFile, longest_seconds: float) -> Iterator[tuple[int, int]]:
    """Spans [start, end) in samples that cover the audio without a gap, none longer than `longest_seconds`.

    A cut is made in the quietest 200 ms of the last fifth of what may be taken: between words, if anywhere.
    The same audio is always cut the same way, so that a retry finds the pieces of the attempt before it.
    """
    longest = int(longest_seconds * SAMPLE_RATE)
    start = 0
    while pcm.length - start > longest:
        search = start + longest - longest // 5
        end = search + _quietest(pcm.read(search, start + longest))
        yield start, end
        start = end
    if start < pcm.length:
        yield start, pcm.length


def _quietest(samples: memoryview) -> int:
    """Middle of the quietest 200 ms, the last of several; an offset in samples."""
    frames = []
    for at in range(0, len(samples) - _FRAME + 1, _FRAME):
        values = samples[at : at + _FRAME].tolist()
        frames.append(sum(map(mul, values, values)))
    sums = [sum(frames[at : at + _QUIET_FRAMES]) for at in range(len(frames) - _QUIET_FRAMES + 1)]
    least = min(sums)
    last = len(sums) - 1 - sums[::-1].index(least)
    return (last + _QUIET_FRAMES // 2) * _FRAME
