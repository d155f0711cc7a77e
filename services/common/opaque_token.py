"""Page tokens as clients see them: Base64, to hand back as it is."""

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
