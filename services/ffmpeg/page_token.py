"""Opaque page tokens of the task list: a stable position, not an offset."""

from __future__ import annotations

import base64
import re

from services.common.error_catalog import ErrorReason
from services.common.errors import ReelwayError

_POSITION = re.compile(r"t1:(\d{1,15}):([0-9a-f-]{36})")


def encode(created_ms: int, job_id: str) -> str:
    """A token for the page that begins behind this job."""
    return base64.urlsafe_b64encode(f"t1:{created_ms}:{job_id}".encode()).decode().rstrip("=")


def decode(token: str) -> tuple[int, str]:
    """(created_ms, id) behind which the page begins; INVALID_PAGE_TOKEN for what `encode` did not make."""
    try:
        raw = base64.b64decode(token + "=" * (-len(token) % 4), altchars=b"-_", validate=True).decode()
    except ValueError:
        raise ReelwayError(ErrorReason.INVALID_PAGE_TOKEN) from None
    match = _POSITION.fullmatch(raw)
    if match is None or encode(int(match[1]), match[2]) != token:
        raise ReelwayError(ErrorReason.INVALID_PAGE_TOKEN)
    return int(match[1]), match[2]
