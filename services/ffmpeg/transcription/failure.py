"""Why a transcript could not be made: one table."""

from __future__ import annotations

import enum


class FailureReason(enum.Enum):
    """Stable names; what is told to people and whether trying again may help is in the properties."""

    SWITCHED_OFF = "SWITCHED_OFF"
    ENGINE_MISSING = "ENGINE_MISSING"
    MODEL_UNAVAILABLE = "MODEL_UNAVAILABLE"
    UNSUPPORTED_LANGUAGE = "UNSUPPORTED_LANGUAGE"
    AUDIO_UNREADABLE = "AUDIO_UNREADABLE"
    AUDIO_TOO_LONG = "AUDIO_TOO_LONG"
    ENGINE_REFUSED = "ENGINE_REFUSED"
    ENGINE_UNREACHABLE = "ENGINE_UNREACHABLE"
    OUT_OF_MEMORY = "OUT_OF_MEMORY"
    TIMED_OUT = "TIMED_OUT"
    CRASHED = "CRASHED"

    @property
    def message(self) -> str:
        """For a person; names no host and no path."""
        return _MESSAGES[self]

    @property
    def transient(self) -> bool:
        """Another attempt, which goes on at the first piece that is missing, may succeed."""
        return self in _TRANSIENT


_MESSAGES = {
    FailureReason.SWITCHED_OFF: "Transcription is switched off on this server",
    FailureReason.ENGINE_MISSING: "The transcription engine is not installed on this server",
    FailureReason.MODEL_UNAVAILABLE: "The transcription model is not available on this server",
    FailureReason.UNSUPPORTED_LANGUAGE: "The transcription model does not know this language",
    FailureReason.AUDIO_UNREADABLE: "The audio of this video could not be decoded",
    FailureReason.AUDIO_TOO_LONG: "The audio of this video is too long to be transcribed",
    FailureReason.ENGINE_REFUSED: "The transcription server refused the audio",
    FailureReason.ENGINE_UNREACHABLE: "The transcription server could not be reached",
    FailureReason.OUT_OF_MEMORY: "Transcription ran out of memory",
    FailureReason.TIMED_OUT: "Transcription took too long",
    FailureReason.CRASHED: "Transcription stopped unexpectedly",
}

_TRANSIENT = {
    FailureReason.ENGINE_UNREACHABLE,
    FailureReason.OUT_OF_MEMORY,
    FailureReason.TIMED_OUT,
    FailureReason.CRASHED,
}


class TranscriptionError(Exception):
    """No transcript, and why. `detail` is for the log of the operator, never for a client."""

    def __init__(self, reason: FailureReason, detail: str = "") -> None:
        super().__init__(f"{reason.value}: {detail or reason.message}")
        self.reason = reason
        self.detail = detail
