"""The dialects, one module each."""

from __future__ import annotations

from gateway.routes import append_video, ffmpeg, health, record, videos
from gateway.routing import Routes

DIALECTS: tuple[Routes, ...] = (health.routes, videos.routes, append_video.routes, record.routes, ffmpeg.routes)
"""In the order in which they are published."""
