"""Opaque page tokens: a stable position, not an offset."""

from __future__ import annotations

import base64
import binascii
import re

from services.common.error_catalog import ErrorReason
from services.common.errors import ReelwayError

_MAGIC = "n1:"
_PLACE = re.compile(r"(\d{1,16}):([0-9a-f-]{36})")


def encode(after_number: int) -> str:
    """A token for the page that begins behind this number."""
    return _seal(f"{_MAGIC}{after_number}")


def decode(token: str) -> int:
    """The number behind which the page begins; INVALID_PAGE_TOKEN for a token that `encode` did not make."""
    digits = _open(token, _MAGIC)
    if digits.isdecimal() and len(digits) <= 19 and encode(int(digits)) == token:
        return int(digits)
    raise ReelwayError(ErrorReason.INVALID_PAGE_TOKEN)


def encode_place(kind: str, score: int, video_id: str) -> str:
    """A token for the page of a list of `kind` (a word) that begins behind this video."""
    return _seal(f"{kind}:{score}:{video_id}")


def decode_place(kind: str, token: str) -> tuple[int, str]:
    """Score and id of the video behind which the page begins; INVALID_PAGE_TOKEN for one of no list of `kind`."""
    place = _PLACE.fullmatch(_open(token, f"{kind}:"))
    if place is None or encode_place(kind, int(place[1]), place[2]) != token:
        raise ReelwayError(ErrorReason.INVALID_PAGE_TOKEN)
    return int(place[1]), place[2]


def _seal(text: str) -> str:
    return base64.urlsafe_b64encode(text.encode()).decode().rstrip("=")


def _open(token: str, magic: str) -> str:
    try:
        text = base64.b64decode(token + "=" * (-len(token) % 4), altchars=b"-_", validate=True).decode("ascii")
    except (binascii.Error, ValueError):
        raise ReelwayError(ErrorReason.INVALID_PAGE_TOKEN) from None
    if not text.startswith(magic):
        raise ReelwayError(ErrorReason.INVALID_PAGE_TOKEN)
    return text[len(magic) :]
