"""How an engine is configured; where the values come from is in `settings.py`."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True)
class EngineConfig:
    """What an engine is made from. Goes to the child process as JSON over its standard input."""

    engine: str = "faster-whisper"
    model: str = ""
    device: str = "cpu"
    compute: str = "int8"
    beam: int = 1
    threads: int = 1
    allow_download: bool = False
    cache_dir: str = ""
    url: str = ""
    api_key: str = field(default="", repr=False)
