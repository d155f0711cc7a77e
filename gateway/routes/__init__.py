"""The dialects, one module each."""

from __future__ import annotations

from gateway.routes import ffmpeg, health, videos
from gateway.routing import Routes

DIALECTS: tuple[Routes, ...] = (health.routes, videos.routes, ffmpeg.routes)
"""In the order in which they are published."""
