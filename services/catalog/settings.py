"""Settings of the catalog."""

from __future__ import annotations

from pydantic import Field

from services.common.settings import (
    HearingSettings,
    RedisSettings,
    S3Settings,
    Seconds,
    ServiceSettings,
    SignedSettings,
)


class CatalogSettings(ServiceSettings, S3Settings, RedisSettings, SignedSettings, HearingSettings):
    """What the catalog process reads."""

    ffmpeg_target: str = "127.0.0.1:50054"
    """gRPC target of the ffmpeg service, whose jobs look at every video."""
    catalog_sweep_interval_seconds: Seconds = Field(10.0, gt=0)
    """Pause between two looks for deletions and record copies that a crash left half done."""
    catalog_sweep_grace_seconds: Seconds = 30.0
    """Such a leftover is taken up once it is this old; longer than a live request takes."""
