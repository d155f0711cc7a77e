"""Settings of the stream service."""

from __future__ import annotations

from pydantic import Field

from services.common.settings import S3Settings, Seconds, ServiceSettings


class StreamSettings(ServiceSettings, S3Settings):
    """What the stream process reads."""

    catalog_target: str = "127.0.0.1:50053"
    """gRPC target of the catalog."""
    upload_target: str = "127.0.0.1:50051"
    """gRPC target of the upload service, which knows where the bytes of growing videos are."""
    ffmpeg_target: str = "127.0.0.1:50054"
    """gRPC target of the ffmpeg service, which joins clips."""
    stream_access_ttl_seconds: Seconds = Field(1.0, le=2.0)
    """How old the catalog's answer may be that a read relies on."""
