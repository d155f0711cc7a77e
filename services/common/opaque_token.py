"""Page tokens as clients see them: Base64, to hand back as it is; a stable position, not an offset."""

from __future__ import annotations

import base64
import contextlib
import re

from services.common.error_catalog import ErrorReason
from services.common.errors import ReelwayError


def seal(text: str) -> str:
    """A token of URL-safe characters that says `text`."""
    return base64.urlsafe_b64encode(text.encode()).decode().rstrip("=")


def unseal(token: str, pattern: str) -> re.Match[str]:
    """How `pattern` matches the whole text of a token; INVALID_PAGE_TOKEN for what `seal` did not make of such a text.

    So that each position has one token, a pattern takes no leading zeros.
    """
    with contextlib.suppress(ValueError):
        text = base64.b64decode(token + "=" * (-len(token) % 4), altchars=b"-_", validate=True).decode()
        found = re.fullmatch(pattern, text)
        # Base64 has several spellings of the same text.
        if found and seal(text) == token:
            return found
    raise ReelwayError(ErrorReason.INVALID_PAGE_TOKEN)


def seal_place(kind: str, score: int, row_id: str) -> str:
    """A token for the page of a list of `kind` (a word) that begins behind this row."""
    return seal(f"{kind}:{score}:{row_id}")


def unseal_place(kind: str, token: str) -> tuple[int, str]:
    """Score and id of the row behind which the page begins; INVALID_PAGE_TOKEN for one of no list of `kind`."""
    place = unseal(token, rf"{kind}:(0|[1-9][0-9]{{0,15}}):([0-9a-f-]{{36}})")
    return int(place[1]), place[2]
