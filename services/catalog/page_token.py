"""Opaque page tokens: a stable position, not an offset."""

from __future__ import annotations

from services.common.opaque_token import seal, unseal


def encode(after_number: int) -> str:
    """A token for the page that begins behind this number."""
    return seal(f"n1:{after_number}")


def decode(token: str) -> int:
    """The number behind which the page begins; INVALID_PAGE_TOKEN for a token that `encode` did not make."""
    return int(unseal(token, r"n1:(0|[1-9][0-9]{0,18})")[1])
