"""What the worker reads from its environment about transcripts."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from pydantic import BeforeValidator, Field, SecretStr

from services.common.settings import HearingSettings, HttpUrl, Seconds, Size
from services.ffmpeg.transcription.config import EngineConfig


def _parse_env(value: object) -> object:
    if isinstance(value, str):
        pairs = [pair.strip().partition("=") for pair in value.split(",") if pair.strip()]
        if not all(name and equals for name, equals, _ in pairs):
            raise ValueError("not NAME=value,…")
        return {name: content for name, _, content in pairs}
    return value


class TranscribeSettings(HearingSettings):
    """Environment of the worker that makes transcripts."""

    transcribe_device: str = Field("cpu", pattern="^(cpu|cuda|auto)$")
    """Where faster-whisper computes."""
    transcribe_compute: str = Field("int8", pattern=r"^[a-z0-9_]+$")
    """CTranslate2 compute type: int8, float16, …"""
    transcribe_beam: int = Field(1, ge=1, le=10)
    """Beam width; 5 is slower and hardly better on the packaged model."""
    transcribe_threads: int = Field(1, ge=1, le=64)
    """Threads of one transcription."""
    transcribe_allow_download: bool = False
    """Whether a hub name may be fetched from the internet."""
    transcribe_cache_dir: Path = Path("~/.cache/reelway/models")
    """Where models are assembled or downloaded to. May be on a shared or read-only volume once filled."""
    transcribe_url: HttpUrl = ""
    """Base of an OpenAI-like API, for example https://host/v1."""
    transcribe_api_key: SecretStr = SecretStr("")
    """Its bearer token; empty: none is sent."""
    transcribe_memory: Size = Field(2_000_000_000, ge=1)
    """Bytes of memory that the child process may reserve (default 2 GB); larger models need more."""
    transcribe_max_seconds: Seconds = Field(6 * 3600.0, gt=0)
    """Longest audio that is transcribed."""
    transcribe_min_timeout_seconds: Seconds = 120.0
    """Time that a transcription gets, however short; longer audio gets its own length."""
    transcribe_env: Annotated[dict[str, str], BeforeValidator(_parse_env)] = Field(default_factory=dict)
    """`NAME=value,…`: more environment for the child, which gets none of the worker's: for example a proxy to
    download through, or LD_LIBRARY_PATH for CUDA."""

    def engine_config(self) -> EngineConfig:
        """The part that engines see."""
        return EngineConfig(
            engine=self.transcribe_engine,
            model=self.transcribe_model,
            device=self.transcribe_device,
            compute=self.transcribe_compute,
            beam=self.transcribe_beam,
            threads=self.transcribe_threads,
            allow_download=self.transcribe_allow_download,
            cache_dir=str(self.transcribe_cache_dir.expanduser()),
            url=self.transcribe_url.rstrip("/"),
            api_key=self.transcribe_api_key.get_secret_value(),
        )
