"""No engine: transcripts are switched off, and say so."""

from __future__ import annotations

from services.ffmpeg.transcription.config import EngineConfig
from services.ffmpeg.transcription.failure import FailureReason, TranscriptionError
from services.ffmpeg.transcription.words import Heard


class NoEngine:
    """Refuses to open."""

    name = "none"
    model = "none"
    multilingual = True
    longest_seconds = 300.0

    def __init__(self, config: EngineConfig) -> None:
        del config

    def open(self) -> None:
        """Always SWITCHED_OFF."""
        raise TranscriptionError(FailureReason.SWITCHED_OFF)

    def run(self, samples: memoryview, language: str | None) -> Heard:
        """Never reached."""
        del samples, language
        raise TranscriptionError(FailureReason.SWITCHED_OFF)

    def close(self) -> None:
        """Nothing is held."""
