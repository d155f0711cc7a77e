"""Settings of the stream service."""

from __future__ import annotations

from pydantic import Field

from services.common.settings import S3Settings, Seconds, ServiceSettings, Size
from services.stream.playback import LONG_WINDOW_HOLDS


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
    stream_buffer_bytes: Size = Field(4 * 2**30, ge=2 * LONG_WINDOW_HOLDS)
    """Bytes that all reads under way may hold together (default 4 GiB, at least 8 MiB).

    A window counts with 2 MiB, one of 16 MiB and more, which only fast viewers are given, with 4: what does not fit is
    refused with TOO_MANY_REQUESTS, and asked for again elsewhere, or once a viewer who stands still has given his up.
    A quarter is kept for short ranges, which count with twice their length until they are taken.
    """
