"""Page tokens: a stable position in a list, not an offset, in Base64 that clients hand back as it is.

Each position has one token. Whatever else a client sends is refused with INVALID_PAGE_TOKEN.
"""

from __future__ import annotations

import base64
import contextlib
import re

from services.common.error_catalog import ErrorReason
from services.common.errors import ReelwayError


def encode_number(number: int) -> str:
    """A token for the page that begins behind the row with this number."""
    return _encode(f"n1:{number}")


def decode_number(token: str) -> int:
    """The number behind which the page begins; INVALID_PAGE_TOKEN."""
    return int(_decode(token, r"n1:(0|[1-9][0-9]{0,18})")[1])


def encode_place(kind: str, score: int, row_id: str) -> str:
    """A token for the page of a list of `kind` (a word) that begins behind this row."""
    return _encode(f"{kind}:{score}:{row_id}")


def decode_place(kind: str, token: str) -> tuple[int, str]:
    """Score and id of the row behind which the page begins; INVALID_PAGE_TOKEN, also for a list of another kind."""
    place = _decode(token, rf"{kind}:(0|[1-9][0-9]{{0,15}}):([0-9a-f-]{{36}})")
    return int(place[1]), place[2]


def _encode(text: str) -> str:
    return base64.urlsafe_b64encode(text.encode()).decode().rstrip("=")


def _decode(token: str, pattern: str) -> re.Match[str]:
    """How `pattern` matches the text; it takes no leading zeros, so that each position has one text."""
    with contextlib.suppress(ValueError):
        text = base64.b64decode(token + "=" * (-len(token) % 4), altchars=b"-_", validate=True).decode()
        found = re.fullmatch(pattern, text)
        # Base64 has several spellings of the same text.
        if found and _encode(text) == token:
            return found
    raise ReelwayError(ErrorReason.INVALID_PAGE_TOKEN)
