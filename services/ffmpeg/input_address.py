"""The addresses that an input can have: `http(s)://…`, or `video://{uuid}` for a video of this system."""

from __future__ import annotations

import re
import uuid

from services.ffmpeg.addresses import AddressPolicy

_VIDEO = re.compile(r"video://([0-9a-fA-F-]{36})")


def video_id_of(url: str) -> str | None:
    """The UUID of a `video://` address; None for every other address."""
    match = _VIDEO.fullmatch(url)
    try:
        return str(uuid.UUID(match[1])) if match else None
    except ValueError:
        return None


def check_input_url(url: str, policy: AddressPolicy) -> None:
    """Raise ReelwayError INPUT_REFUSED for an address that no worker will ever fetch; looks at the text alone."""
    if video_id_of(url) is None:
        policy.check_url(url)
