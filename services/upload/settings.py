"""Settings of the upload service."""

from __future__ import annotations

from pydantic import Field

from services.common.settings import RedisSettings, S3Settings, Seconds, ServiceSettings, Size
from services.upload.part_plan import LARGEST_FILE


class UploadSettings(ServiceSettings, S3Settings, RedisSettings):
    """What the upload process reads."""

    catalog_target: str = "127.0.0.1:50053"
    """gRPC target of the catalog."""
    upload_max_bytes: Size = Field(50 * 2**30, ge=1, le=LARGEST_FILE)
    """Largest file that is taken, in bytes (default 50 GiB, at most 156 GiB)."""
    upload_idle_seconds: Seconds = 60.0
    """An upload that brings no message for so long is given up."""
    upload_lease_seconds: Seconds = 60.0
    """An upload whose process has not been heard of for so long is swept."""
    upload_sweep_interval_seconds: Seconds = 15.0
    """Pause between two looks for what crashed uploads left."""
    upload_orphan_seconds: Seconds = 86_400.0
    """A multipart upload that Redis knows nothing of is aborted once it is this old."""
