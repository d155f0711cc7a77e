"""Why a transcript could not be made: one table."""

from __future__ import annotations

import enum


class FailureReason(enum.Enum):
    """Stable names."""

    SWITCHED_OFF = "Transcription is switched off on this server"
    ENGINE_MISSING = "The transcription engine is not installed on this server"
    MODEL_UNAVAILABLE = "The transcription model is not available on this server"
    UNSUPPORTED_LANGUAGE = "The transcription model does not know this language"
    AUDIO_UNREADABLE = "The audio of this video could not be decoded"
    AUDIO_TOO_LONG = "The audio of this video is too long to be transcribed"
    ENGINE_REFUSED = "The transcription server refused the audio"
    STORAGE_UNAVAILABLE = "Storage was not available; try again later", True
    """The worker's disk is full or fails: its job gets successors, as TaskFailure.STORAGE_UNAVAILABLE."""
    ENGINE_UNREACHABLE = "The transcription server could not be reached", True
    OUT_OF_MEMORY = "Transcription ran out of memory", True
    TIMED_OUT = "Transcription took too long", True
    CRASHED = "Transcription stopped unexpectedly", True

    def __init__(self, message: str, transient: bool = False) -> None:
        """`message` is for a person, and names no host and no path.

        `transient`: another attempt, which goes on at the first piece that is missing, may succeed.
        """
        self.message, self.transient = message, transient


class TranscriptionError(Exception):
    """No transcript, and why. `detail` is for the log of the operator, never for a client."""

    def __init__(self, reason: FailureReason, detail: str = "") -> None:
        super().__init__(f"{reason.name}: {detail or reason.message}")
        self.reason = reason
        self.detail = detail
