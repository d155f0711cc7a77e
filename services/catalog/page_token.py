"""Opaque page tokens: a stable position, not an offset."""

from __future__ import annotations

import base64
import binascii

from services.common.error_catalog import ErrorReason
from services.common.errors import ReelwayError

_MAGIC = b"n1:"


def encode(after_number: int) -> str:
    """A token for the page that begins behind this number."""
    return base64.urlsafe_b64encode(_MAGIC + str(after_number).encode()).decode().rstrip("=")


def decode(token: str) -> int:
    """The number behind which the page begins; INVALID_PAGE_TOKEN for a token that `encode` did not make."""
    try:
        raw = base64.b64decode(token + "=" * (-len(token) % 4), altchars=b"-_", validate=True)
        magic, digits = raw[:3], raw[3:]
        if magic == _MAGIC and digits.isdigit() and len(digits) <= 19 and encode(int(digits)) == token:
            return int(digits)
    except (binascii.Error, ValueError):
        pass
    raise ReelwayError(ErrorReason.INVALID_PAGE_TOKEN)
