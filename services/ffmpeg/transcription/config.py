"""How an engine is configured; where the values come from is in `settings.py`."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True)
class EngineConfig:
    """What an engine is made from. Goes to the child process as JSON over its standard input."""

    engine: str = "faster-whisper"
    """Its name, see engines/."""
    model: str = ""
    """Which of its models; empty: its own choice."""
    device: str = "cpu"
    """`cpu`, `cuda` or `auto`, for a model that runs here."""
    compute: str = "int8"
    """Type of its numbers, as CTranslate2 names it."""
    beam: int = 1
    """Hypotheses that are followed at a time."""
    threads: int = 1
    """Of the CPU."""
    allow_download: bool = False
    """A model that is not here may be fetched."""
    cache_dir: str = ""
    """Where models lie; empty: the engine's own place."""
    url: str = ""
    """Base of an OpenAI-like API, for engines that ask a server."""
    api_key: str = field(default="", repr=False)
    """Its bearer token; empty: none is sent."""
