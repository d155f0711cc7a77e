"""The dialects, one module each."""

from __future__ import annotations

from gateway.routes import append_video, ffmpeg, health, library, record, videos
from gateway.routing import Routes

DIALECTS: tuple[Routes, ...] = (
    health.routes,
    videos.routes,
    append_video.routes,
    record.routes,
    library.routes,
    ffmpeg.routes,
)
"""In the order in which they are published."""
