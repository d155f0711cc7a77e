"""Numbers in a client's text: as long, and in whatever script, as it likes to write them."""

from __future__ import annotations

_MAX_DIGITS = 18
# Stands for every larger number: beyond all limits, and no work to read.
_BEYOND: int = 10**_MAX_DIGITS


def whole_number(text: str) -> int | None:
    """The number that ASCII digits write, at most 10^18; None for any other text."""
    if not (text.isascii() and text.isdigit()):
        return None
    digits = text.lstrip("0")
    return int(digits or "0") if len(digits) <= _MAX_DIGITS else _BEYOND
