"""Engines: what turns samples into words. Found by name, so that another one is a plug-in.

A package offers its own by an entry point of the group `reelway.transcription_engines`.
"""

from __future__ import annotations

import importlib
from importlib.metadata import entry_points
from typing import Protocol

from services.ffmpeg.transcription.config import EngineConfig
from services.ffmpeg.transcription.failure import FailureReason, TranscriptionError
from services.ffmpeg.transcription.words import Heard

ENTRY_POINTS = "reelway.transcription_engines"
_BUILT_IN = {
    "faster-whisper": "services.ffmpeg.transcription.engines.faster_whisper:FasterWhisper",
    "openai": "services.ffmpeg.transcription.engines.openai:OpenAi",
}


class Engine(Protocol):
    """Made with an EngineConfig, then opened, run on each piece in order, and closed; all in one thread.

    Every method may raise TranscriptionError; an OSError of a disk that is full or fails counts as
    STORAGE_UNAVAILABLE, whatever else it raises as CRASHED.
    """

    name: str
    model: str
    """Identity of what hears, known once it is open; pieces of another model are heard again."""
    multilingual: bool
    """Known once it is open; False: English only."""
    longest_seconds: float
    """Longest piece that it takes well."""

    def open(self) -> None:
        """Load the model or reach the server."""
        ...

    def run(self, samples: memoryview, language: str | None) -> Heard:
        """What is said in these int16 mono samples at 16 kHz; language is ISO 639-1, None: detect."""
        ...

    def close(self) -> None:
        """Let go of everything; also after an `open` that failed."""
        ...


def make_engine(config: EngineConfig) -> Engine:
    """The engine that the configuration names, not yet open.

    Raises:
        TranscriptionError: SWITCHED_OFF: it is `none`. ENGINE_MISSING: no such name, or its packages are not installed.
    """
    if config.engine == "none":
        raise TranscriptionError(FailureReason.SWITCHED_OFF)
    plugins = {point.name: point.value for point in entry_points(group=ENTRY_POINTS)}
    target = _BUILT_IN.get(config.engine) or plugins.get(config.engine) or config.engine
    module, _, attribute = target.partition(":")
    if not attribute:
        raise TranscriptionError(FailureReason.ENGINE_MISSING, f"there is no engine {config.engine!r}")
    try:
        factory = getattr(importlib.import_module(module), attribute)
    except (ImportError, AttributeError) as error:
        raise TranscriptionError(FailureReason.ENGINE_MISSING, f"{config.engine}: {error}") from None
    engine: Engine = factory(config)
    return engine
