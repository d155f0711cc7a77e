"""Which language the audio is in: asked for, or detected and then kept once it is sure."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from services.ffmpeg.transcription.words import Heard

SURE_PROBABILITY = 0.7
SURE_SPEECH_SECONDS = 5.0
"""So much speech, detected so surely, decides for the rest of the audio."""
LEAST_PROBABILITY = 0.5
"""Less than this is a guess that is not told."""


@dataclass(frozen=True)
class Language:
    """A language and how sure that is."""

    code: str = ""
    """ISO 639-1; empty: not known."""
    probability: float = 0.0
    """0 to 1."""


def locked(heard: Iterable[Heard]) -> str | None:
    """The language that the next piece is heard in, given those before it; None: detect again."""
    for one in heard:
        if one.language_probability >= SURE_PROBABILITY and one.speech_seconds >= SURE_SPEECH_SECONDS:
            return one.language
    return None


def decide(heard: Iterable[Heard]) -> Language:
    """The language of the whole: the one with the most speech behind it; none where it is a guess.

    Pieces without words do not count: silence is "English" to Whisper.
    """
    weights: dict[str, float] = {}
    best: dict[str, float] = {}
    for one in heard:
        if one.words and one.language:
            weights[one.language] = weights.get(one.language, 0) + one.language_probability * one.speech_seconds
            best[one.language] = max(best.get(one.language, 0), one.language_probability)
    if not weights:
        return Language()
    code = max(weights, key=lambda language: weights[language])
    return Language(code, best[code]) if best[code] >= LEAST_PROBABILITY else Language()
