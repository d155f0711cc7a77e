"""Whisper without its patience: an engine that writes down only how each piece begins."""

import itertools
from typing import Any

from services.ffmpeg.transcription.engines.faster_whisper import FasterWhisper

NAME = f"{__name__}:FirstWords"


class FirstWords(FasterWhisper):
    """All of a piece is prepared, and its first half minute heard: what takes memory, and little of the time."""

    def open(self) -> None:
        """As ever."""
        super().open()
        transcribe = self._whisper.transcribe

        def begin(*arguments: Any, **options: Any) -> Any:
            # Segments are heard as they are asked for.
            segments, info = transcribe(*arguments, **options)
            return itertools.islice(segments, 1), info

        self._whisper.transcribe = begin
