"""The use case: a local media file becomes a transcript."""

from __future__ import annotations

import enum
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from services.common.language_tag import primary_language
from services.ffmpeg.transcription import webvtt
from services.ffmpeg.transcription.audio import Audio
from services.ffmpeg.transcription.child import Request
from services.ffmpeg.transcription.child_process import Plan, run_child
from services.ffmpeg.transcription.config import EngineConfig
from services.ffmpeg.transcription.cues import Cue, make_cues
from services.ffmpeg.transcription.failure import FailureReason, TranscriptionError
from services.ffmpeg.transcription.language import Language, decide
from services.ffmpeg.transcription.piece_store import PieceStore
from services.ffmpeg.transcription.settings import TranscribeSettings
from services.ffmpeg.transcription.words import SAMPLE_RATE, Piece, join_text

OnProgress = Callable[[float], None]
"""Told the fraction that is heard, 0 to 1."""


class Outcome(enum.Enum):
    """How a transcription succeeded. All three are successes; failures are TranscriptionError."""

    SPEECH = "speech"
    NO_SPEECH = "no_speech"
    NO_AUDIO = "no_audio"


@dataclass(frozen=True)
class Transcript:
    """What is said in a video."""

    outcome: Outcome
    text: str = ""
    """Running text; empty unless SPEECH."""
    language: Language = field(default_factory=Language)
    """Unknown where nothing is said, and where it would be a guess."""
    cues: tuple[Cue, ...] = ()
    model: str = ""
    """Identity of the model; empty for NO_AUDIO."""
    audio_seconds: float = 0.0

    @property
    def vtt(self) -> str:
        """The captions as WebVTT; valid when empty."""
        return webvtt.render(self.cues)


@dataclass(frozen=True)
class Transcriber:
    """Makes transcripts with one configuration. Holds nothing between them."""

    config: EngineConfig
    memory: int
    """Bytes that the child may reserve."""
    max_seconds: float
    """Longest audio."""
    min_timeout: float
    """Seconds for one attempt, however short the audio; longer audio gets its own length."""
    child_environment: Mapping[str, str]

    @classmethod
    def of(cls, settings: TranscribeSettings) -> Transcriber:
        """As the environment asks for it."""
        return cls(
            settings.engine_config(),
            memory=settings.transcribe_memory,
            max_seconds=settings.transcribe_max_seconds,
            min_timeout=settings.transcribe_min_timeout_seconds,
            child_environment=settings.transcribe_env,
        )

    async def transcribe(self, audio: Audio, pieces: PieceStore, language: str, on_progress: OnProgress) -> Transcript:
        """Hear a file's sound.

        Each piece is stored before the next one counts; what `pieces` holds is not heard again. The pieces stay
        for the caller to clear once the transcript is stored. Cancelling kills the child.

        Raises:
            TranscriptionError: see its reason; `reason.transient` says whether to try again.
        """
        try:
            language = primary_language(language)
        except ValueError:
            raise TranscriptionError(FailureReason.UNSUPPORTED_LANGUAGE, "not a language code") from None
        if not await audio.exists():
            return Transcript(Outcome.NO_AUDIO)
        pcm = await audio.decode(self.max_seconds)
        seconds = _size(pcm) / (2 * SAMPLE_RATE)
        if seconds > self.max_seconds:
            raise TranscriptionError(FailureReason.AUDIO_TOO_LONG, f"more than {self.max_seconds:.0f} s")
        return await self._hear(pcm, seconds, pieces, language, on_progress)

    async def _hear(
        self, pcm: Path, seconds: float, pieces: PieceStore, language: str, on_progress: OnProgress
    ) -> Transcript:
        known = await pieces.load()
        request = Request(os.getpid(), self.memory, str(pcm), language, self.config)
        plan = Plan("", ())
        heard: dict[tuple[int, int], Piece] = {}

        async def take(event: Plan | Piece) -> None:
            nonlocal plan
            if isinstance(event, Plan):
                plan = event
                heard.update({span: p for p in known if p.model == plan.model and (span := p.span) in plan.spans})
            else:
                await pieces.save(event)
                heard[event.span] = event
            on_progress(_fraction(plan, heard))

        await run_child(request, known, max(self.min_timeout, seconds), self.child_environment, take)
        if not plan.model or len(heard) != len(plan.spans):
            # As where a library ends the process with status 0: without a plan, nothing to hear would be silence.
            raise TranscriptionError(FailureReason.CRASHED, "pieces are missing")
        return _assemble([heard[span] for span in plan.spans], plan.model, seconds)


def _fraction(plan: Plan, heard: Mapping[tuple[int, int], Piece]) -> float:
    """How much of the audio is heard, 0 to 1."""
    total = plan.spans[-1][1] if plan.spans else 0
    return sum(end - start for start, end in heard) / total if total else 1.0


def _assemble(pieces: list[Piece], model: str, seconds: float) -> Transcript:
    words = [word for piece in pieces for word in piece.words()]
    cues = tuple(make_cues(words))
    if not cues:
        return Transcript(Outcome.NO_SPEECH, model=model, audio_seconds=seconds)
    language = decide(piece.heard for piece in pieces)
    return Transcript(Outcome.SPEECH, join_text(words), language, cues, model, seconds)


def _size(file: Path) -> int:
    """Bytes; 0 where ffmpeg had nothing to write."""
    return file.stat().st_size if file.is_file() else 0
